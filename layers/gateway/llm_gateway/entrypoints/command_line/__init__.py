"""The prompt author's command line."""
