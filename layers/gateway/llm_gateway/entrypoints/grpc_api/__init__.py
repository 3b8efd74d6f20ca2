"""The gRPC API: the same calls, over the contract in proto/."""
