"""Keys of the providers, from wherever they are read."""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from llm_gateway.errors import ConfigurationError

_KEPT_S = 300
_OWNER_OF_PLAIN_TEXT = "openai"

Read = Callable[[], Awaitable[str]]


class ProviderKey:
    """A provider's key, read when it is first needed and again every five minutes.

    What is read holds OpenAI's key as plain text, or a JSON object with the key of each provider by its name.

    Args:
        read: Reads it.
        name: The provider.
        clock: Seconds that only grow.
    """

    def __init__(self, read: Read, name: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._read = read
        self._name = name
        self._clock = clock
        self._key = ""
        self._fetched = -math.inf

    async def __call__(self) -> str:
        """The key.

        Raises:
            ConfigurationError: There is no such key, or it cannot be read; its value is never repeated.
        """
        if not self._key or self._clock() - self._fetched >= _KEPT_S:
            self._key, self._fetched = await self._fetch(), self._clock()
        return self._key

    async def _fetch(self) -> str:
        key = key_in(await self._read(), self._name)
        if not key:
            raise ConfigurationError(f"The key of provider '{self._name}' is empty; put it into the secret.")
        return key


def in_file(path: Path) -> Read:
    """Reads a file, for example a secret that Docker or Kubernetes mounts."""

    async def read() -> str:
        try:
            return await asyncio.to_thread(path.read_text, encoding="utf-8")
        except (OSError, ValueError) as error:
            raise unreadable() from error

    return read


def as_given(text: str) -> Read:
    """Gives back what was given."""

    async def read() -> str:
        return text

    return read


def key_in(text: str, provider: str) -> str:
    """A provider's key in the text of a secret; empty if it is not there."""
    if not text.lstrip().startswith("{"):
        return text.strip() if provider == _OWNER_OF_PLAIN_TEXT else ""
    try:
        keys = json.loads(text)
    except ValueError:
        return ""
    return str(keys.get(provider) or "").strip()


def unreadable() -> ConfigurationError:
    """The error for keys that cannot be read."""
    return ConfigurationError("The provider's key cannot be read; see the gateway's logs.")
