"""What callers send and get: one module for each method, the same for HTTP, gRPC and Lambda."""
