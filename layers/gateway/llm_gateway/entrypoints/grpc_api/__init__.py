"""The gRPC API: the contract of proto/ in front of the same calls."""
