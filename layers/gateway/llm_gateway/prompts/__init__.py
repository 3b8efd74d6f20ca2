"""Prompt files: their paths, format, rendering and catalogue."""
