"""The service: one FastAPI app over one store. Needs ``pip install 'botwire[server]'``."""
