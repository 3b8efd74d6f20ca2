"""JSON values and JSON Schema: how large they may be, compiled once, applied without quoting a value."""
