"""Access control of the server: rules, tokens, and stores as authorized callers may use them."""
