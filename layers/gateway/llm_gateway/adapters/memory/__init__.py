"""This process's memory behind the core's ports."""
