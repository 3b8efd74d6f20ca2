"""The secret of the keys' hashes, in a file of its own."""

from __future__ import annotations

import asyncio
from pathlib import Path

from llm_gateway.errors import ConfigurationError

_SHORTEST = 32


class FilePepper:
    """Reads the secret once; see Pepper.

    Args:
        path: A file with at least 32 random characters.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._value = b""

    async def __call__(self) -> bytes:
        """The secret.

        Raises:
            ConfigurationError: The file cannot be read, or holds too little.
        """
        if not self._value:
            self._value = await asyncio.to_thread(self._read)
        return self._value

    def _read(self) -> bytes:
        try:
            value = self._path.read_bytes().strip()
        except OSError as error:
            raise ConfigurationError(
                "LLM_GATEWAY_KEY_PEPPER_FILE cannot be read; `llm-gateway keys create` makes it."
            ) from error
        if len(value) < _SHORTEST:
            raise ConfigurationError(f"LLM_GATEWAY_KEY_PEPPER_FILE holds fewer than {_SHORTEST} characters.")
        return value
