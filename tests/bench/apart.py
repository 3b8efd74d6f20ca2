"""A server in a process of its own, so that its work is not counted with what is measured."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection


@contextmanager
def served_apart(serve: Callable[[Connection], None]) -> Iterator[str]:
    """Run `serve` elsewhere; yields the address that it sends first, and sends it something to end it."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=serve, args=(theirs,), daemon=True)
    process.start()
    try:
        yield ours.recv()
    finally:
        ours.send(None)
        process.join()
