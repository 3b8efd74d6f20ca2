"""The ways in; each turns its own world's request into the gateway's and back."""
