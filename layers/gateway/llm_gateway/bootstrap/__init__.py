"""The composition root: settings in, services out; each is built once and only if asked for."""
