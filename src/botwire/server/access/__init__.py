"""Access control of the server: rules, tokens and the gate."""
