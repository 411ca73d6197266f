"""What the messages of a session mean: contexts within a budget, problems and repairs, redaction. No store, no input or output."""
