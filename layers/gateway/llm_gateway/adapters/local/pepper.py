"""The secret that hashes of gateway keys are keyed with, in a file of its own."""

from __future__ import annotations

import asyncio
import os
import secrets
from contextlib import suppress
from pathlib import Path

from llm_gateway.adapters.local.local_file import read_whole
from llm_gateway.errors import ConfigurationError

_SHORTEST = 32
_LONGEST = 65_536


class FilePepper:
    """Reads the secret once, and makes it if there is none yet; see Pepper.

    Args:
        path: The file; nobody but its owner should be able to read it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._value = b""

    async def __call__(self) -> bytes:
        """The secret.

        Raises:
            ConfigurationError: The file cannot be read or made, or holds too little.
        """
        if not self._value:
            self._value = await asyncio.to_thread(self._read)
        return self._value

    def _read(self) -> bytes:
        try:
            with suppress(FileExistsError):
                handle = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
                with os.fdopen(handle, "w") as stream:
                    stream.write(secrets.token_hex(32))
            value = read_whole(self._path, _LONGEST).strip()
        except OSError as error:
            raise ConfigurationError(
                f"'{self._path.name}', the secret of the keys, cannot be read."
            ) from error
        if len(value) < _SHORTEST:
            raise ConfigurationError(f"'{self._path.name}' holds fewer than {_SHORTEST} characters.")
        return value
