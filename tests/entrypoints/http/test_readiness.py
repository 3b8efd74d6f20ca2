"""Readiness is asked for without a key: it costs the stores little, and tells callers nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from llm_gateway.entrypoints.http.health import Dependencies
from llm_gateway.errors import StoreUnavailable
from tests.fakes import RecordingObserver


def test_many_who_ask_at_once_make_the_stores_answer_once_a_second() -> None:
    asked, now = 0, 0.0

    async def store() -> None:
        nonlocal asked
        asked += 1
        await asyncio.sleep(0)

    async def scene() -> None:
        nonlocal now
        dependencies = Dependencies({"store": store}, RecordingObserver(), lambda: now)
        assert await asyncio.gather(*(dependencies.ready() for _ in range(50))) == [True] * 50
        assert asked == 1
        now = 1.0
        assert await dependencies.ready()
        assert asked == 2

    asyncio.run(scene())


def test_which_dependency_fails_is_told_when_it_changes_and_not_each_time() -> None:
    now, broken = 0.0, {"store": False, "index": False}
    observer = RecordingObserver()

    def check(name: str) -> Callable[[], Awaitable[None]]:
        async def checked() -> None:
            if broken[name]:
                raise StoreUnavailable("It does not answer.")

        return checked

    async def scene() -> list[bool]:
        nonlocal now
        dependencies, found = Dependencies({n: check(n) for n in broken}, observer, lambda: now), []
        for state in ((False, False), (True, False), (True, False), (True, True), (False, False)):
            broken.update(zip(broken, state, strict=True))
            now += 1
            found.append(await dependencies.ready())
        return found

    assert asyncio.run(scene()) == [True, False, False, False, True]
    assert [facts["failed"] for _, facts in observer.notes] == [["store"], ["store", "index"], []]
