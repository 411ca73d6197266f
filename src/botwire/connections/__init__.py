"""The connections of botwire's HTTP servers: uvicorn's protocol with limits. Needs uvicorn and httptools."""
