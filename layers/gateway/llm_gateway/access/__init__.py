"""Who calls, what they may do, and the keys that prove it."""
