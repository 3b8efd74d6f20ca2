"""The gRPC server over a loopback socket, asked by a real client."""
