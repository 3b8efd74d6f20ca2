"""What callers send and get: the pydantic models of every entrance, one module for each kind of call."""
