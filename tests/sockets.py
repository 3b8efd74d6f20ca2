"""What TCP lets a bad server do to its clients, and how to see whether they hung up."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

POLL_S = 0.01
# States of Linux's TCP in which the other end has not said goodbye: ESTABLISHED, FIN_WAIT1, FIN_WAIT2.
_OPEN = {1, 4, 5}
_SYN_SENT = "02"


class HungUp(ConnectionError):
    """The client closed its connection while it was being served."""


def has_hung_up(connection: socket.socket) -> bool:
    """True once the other end has closed, even if a half of the connection is shut down at this end."""
    if hasattr(socket, "TCP_INFO"):
        return connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] not in _OPEN
    with suppress(BlockingIOError):  # elsewhere than on Linux, halves shut down here look closed
        return connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
    return False


def keep_silent(connection: socket.socket, seconds: float, stop: threading.Event) -> None:
    """Wait, but no longer than until `stop`.

    Raises:
        HungUp: As soon as the client closes its end.
    """
    give_up = time.monotonic() + seconds
    while (left := give_up - time.monotonic()) > 0 and not stop.is_set():
        if has_hung_up(connection):
            raise HungUp
        stop.wait(min(left, POLL_S))


def send(connection: socket.socket, data: bytes, pause_s: float, stop: threading.Event) -> None:
    """Send at once, or byte by byte if there is to be a pause after each."""
    if not pause_s:
        connection.sendall(data)
        return
    for byte in data:
        connection.sendall(bytes([byte]))
        keep_silent(connection, pause_s, stop)


def reset(connection: socket.socket) -> None:
    """Close without a goodbye: the client gets an RST."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


@contextmanager
def full_backlog(listener: socket.socket) -> Iterator[None]:
    """While inside, whoever connects to `listener` waits: its queue is full and nobody accepts."""
    listener.listen(0)
    with ExitStack() as queue:
        while True:
            waiting = queue.enter_context(socket.socket())
            waiting.settimeout(0.1)
            try:
                waiting.connect(listener.getsockname())
            except TimeoutError:
                waiting.close()
                break
        yield


def connecting_to(port: int) -> int:
    """Number of sockets on this machine that still try to connect to a port of loopback (Linux)."""
    rows = [row.split() for row in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(row[2].endswith(f":{port:04X}") and row[3] == _SYN_SENT for row in rows)
