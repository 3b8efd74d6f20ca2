"""The gateway as one process: HTTP and gRPC, prompts from a folder, usage in a file."""
