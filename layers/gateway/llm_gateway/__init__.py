"""A gateway between services and language models: services name a stored prompt and get a model's answer.

Start with gateway.py: its one function is the story. Each folder is one of the story's nouns; adapters/
and providers/ are the outside world; entrypoints/ are the ways in. What may import what:
docs/architecture.md.
"""

__version__ = "0.1.0"
