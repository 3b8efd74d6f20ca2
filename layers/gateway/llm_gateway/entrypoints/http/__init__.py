"""The HTTP API as ASGI: the same routes alone in a Lambda and together in a process."""
