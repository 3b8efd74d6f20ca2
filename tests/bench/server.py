"""The gateway as one process: what it adds to the model alone, how much it carries, how soon it is there."""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median

from local_aws.session import progress
from tests.bench.apart import served_apart
from tests.entrypoints.server.serving import CALL, OPEN, Serving, serving
from tests.entrypoints.server.slow_model import slow_model

ROUNDS = 7
ALONE = 150
AT_ONCE = 32
CALLS_AT_ONCE = 1600
WAITING, DELAY_S = 200, 0.5
ADDED_MS, PER_S, FIRST_S, IDLE_MB, P99_S = 2.9, 430.0, 2.0, 120.0, 1.6
_ASKED = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Greet Ada."}]}


@dataclass
class Connected:
    """One kept connection, and the request that is sent over it again and again."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    request: bytes

    @classmethod
    async def to(cls, url: str, path: str, body: object) -> Connected:
        host, _, port = url.removeprefix("http://").partition("/")[0].partition(":")
        sent = json.dumps(body).encode()
        head = f"POST {path} HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\n"
        head += f"authorization: Bearer sk-test\r\ncontent-length: {len(sent)}\r\n\r\n"
        return cls(*await asyncio.open_connection(host, int(port)), head.encode() + sent)

    async def ask(self) -> float:
        """One request; its time in milliseconds."""
        began = time.perf_counter()
        self.writer.write(self.request)
        head = await self.reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200"), head
        await self.reader.readexactly(int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0]))
        return 1000 * (time.perf_counter() - began)


def run() -> bool:
    """Measure, print, and tell whether every budget is kept."""
    with served_apart(_serve) as url, tempfile.TemporaryDirectory() as folder:
        variables = {**OPEN, "LLM_GATEWAY_OPENAI_BASE_URL": url, "LLM_GATEWAY_OPENAI_API_KEY": "sk-test"}
        first_s = []
        for number in range(ROUNDS):
            progress(f"server: start {number + 1} of {ROUNDS}")
            began = time.perf_counter()
            with serving(Path(folder), variables) as server:
                assert server.call().status_code == 200
                first_s.append(time.perf_counter() - began)
        with serving(Path(folder), variables) as server:
            server.call()
            idle_mb = server.resident_mb()
            added, per_s = asyncio.run(_measured(server, url))
            loaded_mb = server.resident_mb()
        p99_s = asyncio.run(_waiting(Path(folder)))
    return _report(added, per_s, p99_s, median(first_s), idle_mb, loaded_mb)


def _serve(parent: Connection) -> None:
    async def answer() -> None:
        async with slow_model(0) as model:
            parent.send(model.url)
            await asyncio.to_thread(parent.recv)

    asyncio.run(answer())


async def _measured(server: Serving, url: str) -> tuple[float, float]:
    """Milliseconds that are added to a call on its own; calls in a second of many at once."""
    bare = await Connected.to(url, "/v1/chat/completions", _ASKED)
    ours = await Connected.to(server.url, "/v1/call", CALL)
    many = [await Connected.to(server.url, "/v1/call", CALL) for _ in range(AT_ONCE)]
    added, per_s = list[float](), list[float]()
    for number in range(-1, ROUNDS):  # the first one warms up
        progress(f"server: round {number + 1} of {ROUNDS}")
        alone = median([await bare.ask() for _ in range(ALONE)])
        through = median([await ours.ask() for _ in range(ALONE)])
        began = time.perf_counter()
        await asyncio.gather(*(_asked(one, CALLS_AT_ONCE // AT_ONCE) for one in many))
        if number >= 0:
            added.append(through - alone)
            per_s.append(CALLS_AT_ONCE / (time.perf_counter() - began))
    for one in (bare, ours, *many):
        one.writer.close()
    return median(added), median(per_s)


async def _asked(one: Connected, times: int) -> None:
    for _ in range(times):
        await one.ask()


async def _waiting(folder: Path) -> float:
    """The 99th percentile, in seconds, of calls that all wait for a slow model; the best of all rounds."""
    async with slow_model(DELAY_S) as model:
        variables = {
            **OPEN,
            "LLM_GATEWAY_OPENAI_BASE_URL": model.url,
            "LLM_GATEWAY_OPENAI_API_KEY": "sk-test",
        }
        entered = serving(folder, variables)
        server = await asyncio.to_thread(entered.__enter__)
        try:
            many = [await Connected.to(server.url, "/v1/call", CALL) for _ in range(WAITING)]
            p99s = []
            for number in range(ROUNDS):
                progress(f"server: {WAITING} at a time, round {number + 1} of {ROUNDS}")
                times = sorted(await asyncio.gather(*(one.ask() for one in many)))
                p99s.append(times[WAITING * 99 // 100 - 1] / 1000)
            for one in many:
                one.writer.close()
        finally:
            await asyncio.to_thread(entered.__exit__, None, None, None)
    return min(p99s)


def _report(
    added: float, per_s: float, p99_s: float, first_s: float, idle_mb: float, loaded_mb: float
) -> bool:
    rows = [
        ("added to a call, ms (p50, one at a time)", added, ADDED_MS, added <= ADDED_MS),
        (f"calls per second ({AT_ONCE} at a time)", per_s, PER_S, per_s >= PER_S),
        (f"p99 of {WAITING} at a time, model of {DELAY_S} s, s", p99_s, P99_S, p99_s <= P99_S),
        ("from start to the first answer, s", first_s, FIRST_S, first_s <= FIRST_S),
        ("memory when idle, MB", idle_mb, IDLE_MB, idle_mb <= IDLE_MB),
    ]
    print(f"\nOne process, usage on the disk before each answer: median of {ROUNDS} rounds")
    print(f"{'':<42}{'measured':>10}{'budget':>9}")
    for name, measured, budget, kept in rows:
        print(f"{name:<42}{measured:>10.2f}{budget:>9.1f}{'' if kept else '  BROKEN'}")
    print(f"{'memory after these calls, MB':<42}{loaded_mb:>10.2f}")
    kept = all(row[3] for row in rows)
    print("Every budget is kept." if kept else "BROKEN: the process is slower or larger than its budget.")
    return kept
