"""Which version of which prompt is current, and how that follows from the files."""
