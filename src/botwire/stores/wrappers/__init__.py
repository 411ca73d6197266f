"""Stores over other stores: encryption and tracing."""
