"""What callers may do, and how they are told apart by their keys."""

from __future__ import annotations

import asyncio
import re
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_gateway.access.caller import METHODS, OPEN, Caller, Method, Scopes
from llm_gateway.access.errors import Forbidden, KeyExpired, KeyRevoked, Unauthorized
from llm_gateway.access.keys import GatewayKey, KeyCallers, Keys
from llm_gateway.access.reach import candidates
from llm_gateway.adapters.local.keys import FileKeys
from llm_gateway.entrypoints.aws_lambda.callers import caller_context, caller_in
from tests.fakes import NOON

SUPPORT = Caller("shop", "key", Scopes(prompts=("support/", "translate.txt")))


def test_a_caller_may_use_the_methods_of_its_key_only() -> None:
    caller = Caller("shop", scopes=Scopes(methods=("CallPrompt",)))
    caller.permit("CallPrompt")
    with pytest.raises(Forbidden, match="does not allow GetUsageStats"):
        caller.permit("GetUsageStats")


@pytest.mark.parametrize("method", METHODS)
def test_a_key_without_bounds_allows_every_method(method: Method) -> None:
    OPEN.permit(method)


@pytest.mark.parametrize(
    ("path", "reached"),
    [
        ("support/reply.prompt", True),
        ("translate.txt", True),
        ("translate.txt.md", False),
        ("supporter.md", False),
        ("marketing/support/a.md", False),
        ("support", False),
    ],
)
def test_prompts_are_within_reach_by_how_their_paths_begin(path: str, reached: bool) -> None:
    assert SUPPORT.reach.holds(path) is reached


def test_a_path_without_extension_may_still_become_one_within_reach() -> None:
    SUPPORT.permit_prompt("translate")
    with pytest.raises(Forbidden):
        SUPPORT.permit_prompt("translate.md")
    with pytest.raises(Forbidden, match=r"it allows support/, translate.txt"):
        SUPPORT.permit_prompt("marketing/secret")
    for beginning in ("s", "support", "trans"):  # the beginning of a scope is nothing within it
        with pytest.raises(Forbidden):
            SUPPORT.permit_prompt(beginning)


@given(st.text(max_size=20), st.lists(st.text(min_size=1, max_size=6), min_size=1, max_size=3))
def test_whatever_is_within_reach_may_be_named(path: str, prefixes: list[str]) -> None:
    reach = Caller("shop", scopes=Scopes(prompts=tuple(prefixes))).reach
    for named in candidates(path):
        if reach.holds(named):
            assert reach.may_name(named)
            assert reach.may_name(named.removesuffix(".txt").removesuffix(".md").removesuffix(".prompt"))


@pytest.mark.parametrize(
    ("model", "allowed"),
    [("openai/gpt-4o-mini", True), ("openai/gpt-4o", True), ("azure/gpt-4o", False), ("openai/o3", False)],
)
def test_models_are_within_reach_by_name_or_pattern(model: str, allowed: bool) -> None:
    assert Caller("shop", scopes=Scopes(models=("openai/gpt-4o*",))).may_use(model) is allowed


def test_a_call_is_recorded_for_who_the_caller_is_and_not_for_who_it_says() -> None:
    assert SUPPORT.service_for(None) == SUPPORT.service_for("shop") == "shop"
    with pytest.raises(Forbidden) as caught:
        SUPPORT.service_for("billing")
    assert caught.value.param == "calling_service"
    assert "shop" not in caught.value.message
    assert OPEN.service_for("billing") == "billing"
    assert OPEN.service_for(None) is None


def test_a_caller_sees_its_own_usage_unless_its_key_shows_all() -> None:
    assert SUPPORT.usage_filter(None) == SUPPORT.usage_filter("shop") == "shop"
    with pytest.raises(Forbidden):
        SUPPORT.usage_filter("billing")
    finance = Caller("finance", scopes=Scopes(all_usage=True))
    assert (finance.usage_filter(None), finance.usage_filter("shop")) == (None, "shop")
    assert OPEN.usage_filter(None) is None


@pytest.mark.parametrize(
    "caller", [OPEN, SUPPORT, Caller("Köln “7”", "k", Scopes(("CallPrompt",), None, ("a/*",), True, 3))]
)
def test_a_caller_is_the_same_behind_the_authorizer(caller: Caller) -> None:
    assert caller_in(caller_context(caller)) == caller


# ------------------------------------------------------------------------ keys


class Deployment:
    """Keys in a file, a clock set by hand, and lookups that are counted."""

    def __init__(self, folder: Path, kept_s: float = 60) -> None:
        self.now = NOON
        self.seconds = 0.0
        self.lookups = 0
        self.store = FileKeys(folder / "keys.json")
        self.keys = Keys(self.store, self.pepper, self.clock)
        self.callers = KeyCallers(
            self, self.pepper, now=self.clock, clock=lambda: self.seconds, kept_s=kept_s
        )

    def clock(self) -> datetime:
        return self.now

    async def pepper(self) -> bytes:
        return b"p" * 32

    async def get(self, key_id: str) -> GatewayKey | None:
        self.lookups += 1
        return await self.store.get(key_id)

    async def add(self, key: GatewayKey) -> None:
        await self.store.add(key)

    async def end(self, key_id: str, *, expires_at: datetime | None, revoked_at: datetime | None) -> None:
        await self.store.end(key_id, expires_at=expires_at, revoked_at=revoked_at)

    async def all(self) -> list[GatewayKey]:
        return list(await self.store.all())

    def create(self, service: str = "shop", scopes: Scopes | None = None, days: int | None = None) -> str:
        lasts = None if days is None else timedelta(days=days)
        text, _ = asyncio.run(self.keys.create(service, scopes or Scopes(), "ada", lasts=lasts))
        return text

    def key(self, text: str) -> GatewayKey:
        found = asyncio.run(self.store.get(text.split("_")[1]))
        assert found is not None
        return found

    def caller(self, authorization: str | None) -> Caller:
        return asyncio.run(self.callers.authenticate(authorization))

    def knows(self, text: str) -> bool:
        try:
            self.caller(f"Bearer {text}")
        except Unauthorized:
            return False
        return True


@pytest.fixture
def deployment(tmp_path: Path) -> Deployment:
    return Deployment(tmp_path)


def test_a_key_opens_for_its_service_with_its_scopes(deployment: Deployment) -> None:
    scopes = Scopes(prompts=("support/",))
    text = deployment.create("shop", scopes)
    assert re.fullmatch(r"lgw_[0-9a-f]{12}_[0-9a-f]{64}", text)
    assert deployment.caller(f"Bearer {text}") == Caller("shop", text.split("_")[1], scopes)
    assert deployment.caller(f"bearer  {text} ").service == "shop"


def test_neither_the_key_nor_its_secret_part_is_kept(deployment: Deployment, tmp_path: Path) -> None:
    secret = deployment.create().rpartition("_")[2]
    assert secret not in (tmp_path / "keys.json").read_text()


@pytest.mark.parametrize(
    "authorization",
    [None, "", "Bearer", "Bearer ", "Basic c2hvcA==", "Bearer lgw_", "Bearer sk-123", "Bearer lgw_x_y",
     "lgw_a_b", "Bearer lgw_0f1e2d3c4b5a_" + "0" * 64, "Bearer \ud800",
     "Bearer lgw_0F1E2D3C4B5A_" + "0" * 64],
)  # fmt: skip
def test_whatever_else_is_sent_opens_nothing(deployment: Deployment, authorization: str | None) -> None:
    deployment.create()
    with pytest.raises(Unauthorized) as caught:
        deployment.caller(authorization)
    assert caught.value.message == "Send a valid gateway key as 'Authorization: Bearer lgw_…'."


def test_the_right_id_with_another_secret_opens_nothing(deployment: Deployment) -> None:
    one, other = deployment.create(), deployment.create()
    forged = one.rpartition("_")[0] + "_" + other.rpartition("_")[2]
    assert not deployment.knows(forged)


def test_a_store_alone_opens_nothing(deployment: Deployment, tmp_path: Path) -> None:
    """Whoever copies the store to a deployment with another secret has no keys for it."""
    text = deployment.create()

    async def other_pepper() -> bytes:
        return b"q" * 32

    elsewhere = KeyCallers(deployment.store, other_pepper, now=deployment.clock, clock=lambda: 0.0)
    with pytest.raises(Unauthorized):
        asyncio.run(elsewhere.authenticate(f"Bearer {text}"))


def test_the_holder_of_a_key_that_has_ended_learns_how_and_nobody_else_does(deployment: Deployment) -> None:
    expired, revoked = deployment.create(days=1), deployment.create()
    asyncio.run(deployment.keys.revoke(deployment.key(revoked)))
    deployment.now += timedelta(days=1)
    for text, error, code in ((expired, KeyExpired, "key_expired"), (revoked, KeyRevoked, "key_revoked")):
        with pytest.raises(error) as caught:
            deployment.caller(f"Bearer {text}")
        assert (caught.value.status, caught.value.code) == (401, code)
        with pytest.raises(Unauthorized) as refused:  # the right id, another secret
            deployment.caller(f"Bearer {text.rpartition('_')[0]}_{'0' * 64}")
        assert refused.value.code == "unauthorized"


def test_a_key_ends_on_time_even_if_it_is_remembered(deployment: Deployment) -> None:
    text = deployment.create(days=1)
    assert deployment.knows(text)
    deployment.now += timedelta(days=1) - timedelta(seconds=1)
    assert deployment.knows(text)
    deployment.now += timedelta(seconds=1)
    assert not deployment.knows(text)


def test_a_key_is_looked_up_once_in_the_time_it_is_kept(deployment: Deployment) -> None:
    text = deployment.create()
    for deployment.seconds in (0, 30, 59.9):
        assert deployment.knows(text)
    assert deployment.lookups == 1
    deployment.seconds = 60
    assert deployment.knows(text)
    assert deployment.lookups == 2


def test_a_revoked_key_opens_nothing_once_it_is_forgotten(deployment: Deployment) -> None:
    text = deployment.create()
    assert deployment.knows(text)
    asyncio.run(deployment.keys.revoke(deployment.key(text)))
    deployment.seconds = 60
    assert not deployment.knows(text)


def test_ids_that_are_unknown_fill_no_memory_and_a_new_key_opens_at_once(deployment: Deployment) -> None:
    text = deployment.create()
    forged = f"lgw_{'f' * 12}_{'0' * 64}"
    for _ in range(3):
        assert not deployment.knows(forged)
    assert deployment.lookups == 3
    assert deployment.knows(text)


def test_after_a_rotation_both_keys_open_until_the_overlap_is_over(deployment: Deployment) -> None:
    scopes = Scopes(models=("openai/*",))
    old = deployment.create("shop", scopes)
    new, key = asyncio.run(deployment.keys.rotate(deployment.key(old), "ada", overlap=timedelta(hours=2)))
    assert (key.service, key.scopes, key.replaces) == ("shop", scopes, old.split("_")[1])
    deployment.now += timedelta(hours=2) - timedelta(seconds=1)
    assert deployment.knows(old)
    assert deployment.knows(new)
    deployment.now += timedelta(seconds=1)
    assert not deployment.knows(old)
    assert deployment.knows(new)


def test_a_rotation_never_lengthens_a_life(deployment: Deployment) -> None:
    old = deployment.create(days=1)
    asyncio.run(deployment.keys.rotate(deployment.key(old), "ada", overlap=timedelta(days=7)))
    deployment.now += timedelta(days=1)
    assert not deployment.knows(old)


def test_two_commands_at_the_same_time_keep_both_keys(tmp_path: Path) -> None:
    one, other = Deployment(tmp_path), Deployment(tmp_path)

    async def create() -> None:
        work = [d.keys.create(f"s{n}", Scopes(), "ada") for n in range(10) for d in (one, other)]
        await asyncio.gather(*work)

    asyncio.run(create())
    assert len(asyncio.run(one.store.all())) == 20
