"""The gateway on an AWS emulator on this machine: the same template, functions, layers and events."""
