"""Search without a database: texts → terms and vectors, and the ranking of hits."""
