"""The HTTP API: one router for each endpoint, mounted alone in a Lambda or together in a server."""
