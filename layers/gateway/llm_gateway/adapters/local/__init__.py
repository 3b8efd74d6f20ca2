"""Files behind the core's ports, for a process without AWS: a folder of prompts and one SQLite file."""
