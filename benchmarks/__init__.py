"""Benchmarks that compare botwire with other products: ``make bench``."""
