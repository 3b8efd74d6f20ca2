"""Gateway keys: made once, shown once, kept only as a keyed hash.

A key is `lgw_<id>_<secret>`. The id finds it, so a lookup costs the same whoever asks; the hash of the
whole, keyed with a secret of the deployment, is compared in constant time. A copy of the store is worth
nothing without that secret, and nothing with it but a search through 256 bits.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Protocol

from llm_gateway.access.caller import Caller, Scopes
from llm_gateway.access.errors import KeyExpired, KeyRevoked, Unauthorized

KEPT_S = 60.0
"""Default of how long a key that was looked up is trusted before it is looked up again, seconds."""

_FORM = re.compile(r"lgw_([0-9a-f]{12})_[0-9a-f]{64}")
_BEARER = re.compile(r"bearer +(\S+) *", re.IGNORECASE)
_MOST_KEPT = 1_000
_NOBODY = "0" * 64


@dataclass(frozen=True, slots=True)
class GatewayKey:
    """What is kept of a key.

    Attributes:
        key_id: Its public part.
        digest: Keyed hash of the whole, hexadecimal.
        service: Whose it is: recorded and billed.
        scopes: What it allows.
        created_at: Aware UTC.
        created_by: Whoever made it.
        expires_at: When it ends; None is never.
        revoked_at: When it was ended by hand.
        replaces: The key it was rotated from.
    """

    key_id: str
    digest: str
    service: str
    scopes: Scopes
    created_at: datetime
    created_by: str
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    replaces: str | None = None

    def ended(self, now: datetime) -> bool:
        """True if it opens nothing any more."""
        return self.revoked_at is not None or (self.expires_at is not None and self.expires_at <= now)


class KeyStore(Protocol):
    """The keys by id."""

    async def get(self, key_id: str) -> GatewayKey | None:
        """One key.

        Raises:
            StoreUnavailable: It cannot be read.
        """
        ...

    async def add(self, key: GatewayKey) -> None:
        """Keep a new key.

        Raises:
            ValueError: There is one of that id.
            StoreUnavailable: It is not kept.
        """
        ...

    async def end(self, key_id: str, *, expires_at: datetime | None, revoked_at: datetime | None) -> None:
        """Let a key end; an end that is None stays as it is.

        Raises:
            KeyError: There is none of that id.
            StoreUnavailable: It is not kept.
        """
        ...

    async def all(self) -> Sequence[GatewayKey]:
        """Every key, the oldest first."""
        ...


Pepper = Callable[[], Awaitable[bytes]]
"""Gives the secret that hashes are keyed with."""


class Keys:
    """Makes, ends and replaces keys.

    Args:
        store: Where they are.
        pepper: Gives the secret of their hashes.
        now: Aware UTC.
    """

    def __init__(self, store: KeyStore, pepper: Pepper, now: Callable[[], datetime]) -> None:
        self._store = store
        self._pepper = pepper
        self._now = now

    async def create(
        self, service: str, scopes: Scopes, created_by: str, *, lasts: timedelta | None = None
    ) -> tuple[str, GatewayKey]:
        """A new key: its text, which nobody can get again, and what is kept."""
        return await self._made(service, scopes, created_by, lasts, replaces=None)

    async def rotate(
        self, old: GatewayKey, created_by: str, *, overlap: timedelta, lasts: timedelta | None = None
    ) -> tuple[str, GatewayKey]:
        """A key with the same service and scopes; the old one ends after `overlap` at the latest."""
        made = await self._made(old.service, old.scopes, created_by, lasts, replaces=old.key_id)
        ends = self._now() + overlap
        if old.expires_at is None or ends < old.expires_at:
            await self._store.end(old.key_id, expires_at=ends, revoked_at=old.revoked_at)
        return made

    async def revoke(self, key: GatewayKey) -> GatewayKey:
        """End a key now; everybody knows once what was looked up is not trusted any more."""
        if key.revoked_at is not None:
            return key
        revoked = replace(key, revoked_at=self._now())
        await self._store.end(key.key_id, expires_at=key.expires_at, revoked_at=revoked.revoked_at)
        return revoked

    async def _made(
        self, service: str, scopes: Scopes, created_by: str, lasts: timedelta | None, replaces: str | None
    ) -> tuple[str, GatewayKey]:
        key_id, now = secrets.token_hex(6), self._now()
        text = f"lgw_{key_id}_{secrets.token_hex(32)}"
        key = GatewayKey(
            key_id=key_id,
            digest=digest(text, await self._pepper()),
            service=service,
            scopes=scopes,
            created_at=now,
            created_by=created_by,
            expires_at=None if lasts is None else now + lasts,
            replaces=replaces,
        )
        await self._store.add(key)
        return text, key


class KeyCallers:
    """Tells callers by their keys; see Callers.

    Args:
        store: The keys.
        pepper: Gives the secret of their hashes.
        now: Aware UTC.
        clock: Seconds that only grow.
        kept_s: How long what was looked up is trusted: the longest life of a key after it was revoked.
    """

    def __init__(
        self,
        store: KeyStore,
        pepper: Pepper,
        *,
        now: Callable[[], datetime],
        clock: Callable[[], float],
        kept_s: float = KEPT_S,
    ) -> None:
        self._store = store
        self._pepper = pepper
        self._now = now
        self._clock = clock
        self._kept_s = kept_s
        self._kept: OrderedDict[str, tuple[GatewayKey, float]] = OrderedDict()

    async def authenticate(self, authorization: str | None) -> Caller:
        """See Callers.authenticate; that a key has ended is said only to a caller who has its secret.

        Raises:
            KeyExpired, KeyRevoked: The key is genuine and opens nothing any more.
            Unauthorized: Anything else.
        """
        text = bearer(authorization)
        form = _FORM.fullmatch(text)
        if form is None:
            raise Unauthorized
        key = await self._find(form.group(1))
        given = digest(text, await self._pepper())
        # Compared even if there is nothing to compare with, so that time does not tell which ids exist.
        same = hmac.compare_digest(given, _NOBODY if key is None else key.digest)
        if key is None or not same:
            raise Unauthorized
        if key.revoked_at is not None:
            raise KeyRevoked
        if key.ended(self._now()):
            raise KeyExpired
        return Caller(key.service, key.key_id, key.scopes)

    async def _find(self, key_id: str) -> GatewayKey | None:
        kept = self._kept.get(key_id)
        if kept is not None and self._clock() - kept[1] < self._kept_s:
            return kept[0]
        self._kept.pop(key_id, None)
        key = await self._store.get(key_id)
        if key is not None:  # unknown ids are not kept: there is no end to them
            self._kept[key_id] = (key, self._clock())
            if len(self._kept) > _MOST_KEPT:
                self._kept.popitem(last=False)
        return key


def digest(text: str, pepper: bytes) -> str:
    """The keyed hash of a key, HMAC-SHA256 in hexadecimal."""
    return hmac.new(pepper, text.encode(), hashlib.sha256).hexdigest()


def bearer(authorization: str | None) -> str:
    """The token of an `Authorization` header; empty if it is of another kind."""
    found = _BEARER.fullmatch(authorization or "")
    return found.group(1) if found else ""
