"""What can be found out about a prompt without calling a model."""
