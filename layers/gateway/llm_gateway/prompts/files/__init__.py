"""A prompt file as text: its path, its front matter, and the partials it includes."""
