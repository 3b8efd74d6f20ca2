"""Keys of the providers, from wherever they are read."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from llm_gateway.adapters.local.local_file import read_whole
from llm_gateway.errors import ConfigurationError
from llm_gateway.providers.key_text import KeyFault, decoded, key_in

_KEPT_S = 300
_MOST_BYTES = 65_536

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
            ConfigurationError: There is no such key, it cannot be read, or cannot be a key; its value is not
                repeated. The sentence is among the details as well, as `reason`, for the log.
        """
        if not self._key or self._clock() - self._fetched >= _KEPT_S:
            self._key, self._fetched = await self._fetch(), self._clock()
        return self._key

    async def _fetch(self) -> str:
        try:
            key = key_in(await self._read(), self._name)
        except KeyFault as fault:
            raise _wrong(f"The key of provider '{self._name}' {fault}.") from None
        if not key:
            raise _wrong(f"The key of provider '{self._name}' is empty; put it into the secret.")
        return key


def in_file(path: Path) -> Read:
    """Reads a file, for example a secret that Docker or Kubernetes mounts."""

    async def read() -> str:
        try:
            data = await asyncio.to_thread(read_whole, path, _MOST_BYTES)
        except OSError as error:
            raise unreadable(error.strerror or type(error).__name__) from error
        return decoded(data)

    return read


def as_given(text: str) -> Read:
    """Gives back what was given."""

    async def read() -> str:
        return text

    return read


async def not_set() -> str:
    """For a gateway whose providers need no key.

    Raises:
        ConfigurationError: Always: a provider needs one after all.
    """
    raise _wrong(
        "Set LLM_GATEWAY_OPENAI_API_KEY, LLM_GATEWAY_OPENAI_API_KEY_FILE or LLM_GATEWAY_OPENAI_SECRET_ARN."
    )


def unreadable(reason: str | None = None) -> ConfigurationError:
    """The error for keys that cannot be read."""
    details = {} if reason is None else {"reason": reason}
    return ConfigurationError(
        "The provider's key cannot be read; see the gateway's logs.", details={**details}
    )


def _wrong(sentence: str) -> ConfigurationError:
    return ConfigurationError(sentence, details={"reason": sentence})
