"""Whether the vendors take our keys, found out beside the calls by a question that costs nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from llm_gateway.errors import ConfigurationError, GatewayError
from llm_gateway.models.errors import ProviderError

_TIMEOUT_S = 5.0
_FIRST_WAIT_S = 1.0
_LONGEST_WAIT_S = 60.0
_UNAUTHORIZED = 401


class CheckableProvider(Protocol):
    """A provider whose key can be tried."""

    async def check_key(self, timeout_s: float) -> None:
        """Ask for something that needs the key and costs nothing.

        Raises:
            ProviderError: There was no answer, or a refusal.
            ConfigurationError: There is no key.
        """
        ...


class KeyCheckObserver(Protocol):
    """Told of what was found out."""

    def note(self, message: str, **facts: Any) -> None:
        """Something an operator may want to know."""
        ...

    def warn(self, message: str, **facts: Any) -> None:
        """Something an operator has to know."""
        ...


class KeyCheck:
    """Tries the key of each provider until it is taken.

    Only a 401 is a refusal: a vendor that cannot be reached, or that does not let the key list models,
    says nothing about it, and a provider without a key is none that anybody has to use.

    Args:
        providers: The providers by name.
        observer: Logs.
        wait: Waits so many seconds between two tries.
    """

    def __init__(
        self,
        providers: Mapping[str, CheckableProvider],
        observer: KeyCheckObserver,
        wait: Callable[[float], Any] = asyncio.sleep,
    ) -> None:
        self._providers = providers
        self._observer = observer
        self._wait = wait
        self._refused: dict[str, GatewayError] = {}

    @property
    def refused(self) -> bool:
        """True if a key is known to be refused."""
        return bool(self._refused)

    async def passed(self) -> None:
        """Raise what the first refused key was refused with."""
        for error in self._refused.values():
            raise error

    async def run(self, changed: Callable[[], Any]) -> None:
        """Try until every key is taken.

        Args:
            changed: Called and awaited when a key turns out to be refused, or not to be any more.
        """
        await asyncio.gather(*(self._settle(name, changed) for name in self._providers))

    async def _settle(self, name: str, changed: Callable[[], Any]) -> None:
        wait_s = _FIRST_WAIT_S
        while not await self._taken(name):
            await changed()
            await self._wait(wait_s)
            wait_s = min(2 * wait_s, _LONGEST_WAIT_S)
        await changed()

    async def _taken(self, name: str) -> bool:
        """True if there is nothing more to find out."""
        try:
            await self._providers[name].check_key(_TIMEOUT_S)
        except (ProviderError, ConfigurationError) as error:
            return self._judged(name, error)
        self._refused.pop(name, None)
        self._observer.note("provider key accepted", provider=name)
        return True

    def _judged(self, name: str, error: GatewayError) -> bool:
        status = error.details.get("vendor_status")
        facts = {"provider": name, "error_code": error.code, "vendor_status": status}
        facts |= {"reason": reason} if (reason := error.details.get("reason")) else {}
        if status == _UNAUTHORIZED:
            self._refused[name] = error
            self._observer.warn("provider key refused", **facts)
            return False
        self._refused.pop(name, None)
        self._observer.warn("provider key not checked", **facts)
        return not error.retryable
