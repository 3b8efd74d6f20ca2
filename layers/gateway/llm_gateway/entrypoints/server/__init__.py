"""The gateway as one process, from its start to its drained stop."""
