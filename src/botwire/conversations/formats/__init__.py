"""One module for each family of formats: what a message of it is, and how a missing result is written."""
