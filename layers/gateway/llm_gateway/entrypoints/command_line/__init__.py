"""`llm-gateway`: commands for prompt authors, for operators, and for running the process."""
