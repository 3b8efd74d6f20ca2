"""Prompts as files: what a file says, how it is rendered, and which version is current."""
