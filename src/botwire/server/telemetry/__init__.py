"""Metrics, traces, logs and usage history of the server."""
