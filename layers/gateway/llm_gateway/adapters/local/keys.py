"""Gateway keys in one JSON file, for a process without AWS.

The file is replaced as a whole, and read again when it has changed; a lock beside it keeps two commands
from overwriting each other's keys.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from llm_gateway.access.key_record import ends_of, key_of, texts_of
from llm_gateway.access.keys import GatewayKey
from llm_gateway.adapters.local.local_file import read_whole
from llm_gateway.errors import StoreUnavailable

_Texts = dict[str, dict[str, str]]
_MOST_BYTES = 67_108_864


class FileKeys:
    """See KeyStore.

    Args:
        path: The file; without it there are no keys.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: tuple[tuple[int, int, int], _Texts] | None = None

    async def get(self, key_id: str) -> GatewayKey | None:
        """See KeyStore.get."""
        texts = (await asyncio.to_thread(self._read)).get(key_id)
        return None if texts is None else key_of(texts)

    async def add(self, key: GatewayKey) -> None:
        """See KeyStore.add."""

        def change(keys: _Texts) -> None:
            if key.key_id in keys:
                raise ValueError(f"there is a key {key.key_id} already")
            keys[key.key_id] = texts_of(key)

        await asyncio.to_thread(self._change, change)

    async def end(self, key_id: str, *, expires_at: datetime | None, revoked_at: datetime | None) -> None:
        """See KeyStore.end."""
        await asyncio.to_thread(
            self._change, lambda keys: keys[key_id].update(ends_of(expires_at, revoked_at))
        )

    async def all(self) -> Sequence[GatewayKey]:
        """See KeyStore.all."""
        keys = [key_of(texts) for texts in (await asyncio.to_thread(self._read)).values()]
        return sorted(keys, key=lambda key: (key.created_at, key.key_id))

    def _read(self) -> _Texts:
        try:
            found = self._path.stat()
            stamp = (found.st_ino, found.st_mtime_ns, found.st_size)
            if self._seen is None or self._seen[0] != stamp:
                self._seen = (stamp, _keys_in(read_whole(self._path, _MOST_BYTES)))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            reason = {"reason": type(error).__name__}
            raise StoreUnavailable("The file of gateway keys cannot be read.", details=reason) from error
        return self._seen[1]

    def _change(self, change: Callable[[_Texts], None]) -> None:
        with self._locked():
            keys = dict(self._read())
            change(keys)
            self._write(json.dumps({"keys": keys}, indent=2))

    def _write(self, text: str) -> None:
        try:
            handle, name = tempfile.mkstemp(dir=self._path.parent, prefix=f".{self._path.name}.")
            with os.fdopen(handle, "w", encoding="utf-8") as stream:  # mkstemp made it readable to us alone
                stream.write(text)
                stream.flush()
                os.fsync(stream.fileno())
            Path(name).replace(self._path)
        except OSError as error:
            reason = {"reason": type(error).__name__}
            raise StoreUnavailable("The file of gateway keys cannot be written.", details=reason) from error

    @contextmanager
    def _locked(self) -> Iterator[None]:
        lock = self._path.with_name(f".{self._path.name}.lock")
        with os.fdopen(os.open(lock, os.O_WRONLY | os.O_CREAT, 0o600), "w") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            yield


def _keys_in(data: bytes) -> _Texts:
    found = json.loads(data.decode("utf-8-sig"))
    keys = found.get("keys") if isinstance(found, dict) else None
    if not isinstance(keys, dict) or not all(isinstance(texts, dict) for texts in keys.values()):
        raise ValueError("it holds no JSON object of keys")
    return keys
