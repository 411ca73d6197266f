"""Search: how text becomes terms and vectors, and how answers are ranked."""
