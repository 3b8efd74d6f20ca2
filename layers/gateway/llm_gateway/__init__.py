"""LLM Gateway: services name a stored prompt, the gateway renders it, calls the model and accounts for it."""

__version__ = "0.1.0"
