"""Whether a provider takes our key: a refusal is told until it is over, and nothing else is a refusal."""

from __future__ import annotations

import asyncio

import pytest

from llm_gateway.errors import ConfigurationError, GatewayError
from llm_gateway.models.errors import ProviderAuthFailed, ProviderRejected, ProviderUnavailable
from llm_gateway.providers.key_check import KeyCheck
from tests.fakes import RecordingObserver

REFUSED = ProviderAuthFailed("…", details={"vendor_status": 401})
FORBIDDEN = ProviderAuthFailed("…", details={"vendor_status": 403})
NO_LIST = ProviderRejected("…", details={"vendor_status": 404})
DOWN = ProviderUnavailable("…")
NO_KEY = ConfigurationError("…")


class Vendor:
    """Answers each try as it is told to; at the end it takes the key."""

    def __init__(self, *answers: GatewayError) -> None:
        self.answers = list(answers)
        self.tries = 0

    async def check_key(self, timeout_s: float) -> None:
        self.tries += 1
        if self.answers:
            raise self.answers.pop(0)


class Watched:
    """A check, and how it stood after each change and before each wait."""

    def __init__(self, **vendors: Vendor) -> None:
        self.observer = RecordingObserver()
        self.waits: list[float] = []
        self.stood: list[bool] = []
        self.check = KeyCheck(vendors, self.observer, self._wait)
        asyncio.run(self.check.run(self._changed))

    @property
    def told(self) -> list[str]:
        return [message for message, _ in self.observer.notes]

    async def _wait(self, seconds: float) -> None:
        self.waits.append(seconds)

    async def _changed(self) -> None:
        self.stood.append(self.check.refused)


def test_a_key_that_is_taken_is_told_and_tried_no_more() -> None:
    vendor = Vendor()
    watched = Watched(openai=vendor)
    assert (vendor.tries, watched.told, watched.waits) == (1, ["provider key accepted"], [])
    asyncio.run(watched.check.passed())


def test_a_refused_key_is_tried_again_at_growing_distances_until_it_is_taken() -> None:
    watched = Watched(openai=Vendor(*[REFUSED] * 8))
    assert watched.stood == [True] * 8 + [False]
    assert watched.waits == [1, 2, 4, 8, 16, 32, 60, 60]
    assert watched.told == ["provider key refused"] * 8 + ["provider key accepted"]


def test_a_refusal_is_raised_with_what_the_vendor_said() -> None:
    class Stopped(Exception):
        pass

    async def stop(seconds: float) -> None:
        raise Stopped

    async def changed() -> None:
        return None

    check = KeyCheck({"openai": Vendor(REFUSED)}, RecordingObserver(), stop)
    with pytest.raises(Stopped):
        asyncio.run(check.run(changed))
    with pytest.raises(ProviderAuthFailed):
        asyncio.run(check.passed())


@pytest.mark.parametrize("answer", [FORBIDDEN, NO_LIST, NO_KEY])
def test_an_answer_that_says_nothing_about_the_key_is_told_and_not_asked_for_again(
    answer: GatewayError,
) -> None:
    vendor = Vendor(answer)
    watched = Watched(openai=vendor)
    assert (vendor.tries, watched.told, watched.stood) == (1, ["provider key not checked"], [False])


def test_a_vendor_that_is_down_is_asked_again_and_is_no_refusal() -> None:
    watched = Watched(openai=Vendor(DOWN, DOWN, REFUSED))
    assert watched.stood == [False, False, True, False]


def test_a_refusal_of_one_of_several_is_enough() -> None:
    first, second = Vendor(), Vendor(REFUSED, REFUSED)
    watched = Watched(openai=first, azure=second)
    assert (first.tries, second.tries) == (1, 3)
    assert True in watched.stood
    assert watched.stood[-1] is False
