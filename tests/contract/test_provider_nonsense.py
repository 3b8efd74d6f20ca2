"""Whatever a vendor sends, the adapter gives an answer or a ProviderError: both get onto the ledger."""

from __future__ import annotations

import asyncio
import copy
import gzip
import json
import zlib
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any

import pytest

from llm_gateway.models.catalogue import Endpoint, ModelCatalogue
from llm_gateway.models.completion import Completion, TokenUsage
from llm_gateway.models.errors import InvalidProviderResponse, ProviderError, ResponseNoChoices
from llm_gateway.models.messages import Message
from llm_gateway.models.options import ModelOptions
from llm_gateway.providers.http_client import MAX_BODY_BYTES, BodyTooLong, http_client
from llm_gateway.providers.openai.adapter import OpenAIProvider
from tests import upstream as loopback
from tests.fakes import NOON
from tests.upstream import Reply, chat_completion, failure

MODEL = ModelCatalogue.packaged().find("openai", "gpt-4o-mini")
ODD: tuple[Any, ...] = (None, True, -1, 1e400, "x", "\ud800", [], [None], ["x"], [[]], {}, {"a": 1})
Path = tuple[str | int, ...]


def outcomes(replies: Iterable[Reply]) -> list[Completion | ProviderError]:
    """What the adapter makes of each reply; anything but an answer or a ProviderError fails the test."""

    async def key() -> str:
        return "sk-test"

    async def asked(url: str) -> list[Completion | ProviderError]:
        provider, found = OpenAIProvider(key, lambda: NOON, Endpoint(url)), list[Completion | ProviderError]()
        for _ in upstream.script.copy():
            try:
                found.append(await provider.complete(MODEL, [Message("user", "Hi")], ModelOptions(), 5))
            except ProviderError as error:
                found.append(error)
        await provider.close()
        return found

    with loopback.running() as upstream:
        upstream.answers(*replies)
        return asyncio.run(asked(upstream.url))


def parts(value: Any, path: Path = ()) -> Iterator[Path]:
    """The paths of a JSON value and of everything in it."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, item in items:
        yield from parts(item, (*path, name))


def replaced(body: Any, path: Path, part: Any) -> Any:
    """A copy with another value at a path."""
    if not path:
        return part
    changed = copy.deepcopy(body)
    inner = changed
    for name in path[:-1]:
        inner = inner[name]
    inner[path[-1]] = part
    return changed


def with_odd_parts(body: Any) -> Iterator[Any]:
    return (replaced(body, path, odd) for path in parts(body) for odd in ODD)


def test_any_part_of_an_answer_may_be_anything() -> None:
    found = outcomes(Reply(body=body) for body in with_odd_parts(chat_completion()))
    for answer in found:
        if isinstance(answer, Completion):
            f"{answer.text} {answer.served_model} {answer.finish_reason}".encode()
    assert {type(answer) for answer in found} >= {Completion, InvalidProviderResponse, ResponseNoChoices}


@pytest.mark.parametrize("status", [302, 400, 429, 500])
def test_any_part_of_an_error_may_be_anything(status: int) -> None:
    body = {"error": {"message": "SECRET", "type": "t", "param": None, "code": "c"}}
    for answer in outcomes(Reply(status, odd) for odd in with_odd_parts(body)):
        assert isinstance(answer, ProviderError)
        assert "SECRET" not in repr(answer.to_wire("r"))


@pytest.mark.parametrize(
    "body",
    [
        b"", b"\0", b"NaN", b"\xff\xfe", b'{"id": "\xff"}', b"[" * 100_000, b'{"a":' * 100_000,
        b'{"usage": {"prompt_tokens": ' + b"9" * 5_000 + b"}}",
    ],
    ids=["empty", "NUL", "NaN", "no UTF-8", "no UTF-8 inside", "deep list", "deep object", "long number"],
)  # fmt: skip
def test_bytes_that_are_no_answer_are_an_invalid_response(body: bytes) -> None:
    [answer] = outcomes([Reply(body=body)])
    assert isinstance(answer, InvalidProviderResponse)


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd", "unheard-of"])
def test_a_body_that_is_not_encoded_as_declared_is_the_vendors_failure(encoding: str) -> None:
    [answer] = outcomes([Reply(body=b"garbage", headers={"content-encoding": encoding})])
    assert isinstance(answer, ProviderError)
    assert answer.status == 502


@cache
def bomb(megabytes: int) -> bytes:
    """So many megabytes of blanks, gzipped: a thousandth of that."""
    packer = zlib.compressobj(9, zlib.DEFLATED, zlib.MAX_WBITS | 16)
    return b"".join(packer.compress(b" " * 1_000_000) for _ in range(megabytes)) + packer.flush()


@pytest.mark.parametrize("status", [200, 400])
def test_a_bomb_is_an_invalid_response_whatever_its_status(status: int) -> None:
    [answer] = outcomes([Reply(status, bomb(250), {"content-encoding": "gzip"})])
    assert isinstance(answer, InvalidProviderResponse)


def test_of_a_bomb_no_more_is_decoded_than_an_answer_may_have_and_that_in_small_pieces() -> None:
    sizes: list[int] = []

    async def read(url: str) -> None:
        async with http_client() as client, client.stream("POST", url, json={}) as response:
            async for piece in response.aiter_raw():
                sizes.append(len(piece))

    with loopback.running() as upstream:
        upstream.answers(Reply(body=bomb(250), headers={"content-encoding": "gzip"}))
        with pytest.raises(BodyTooLong):
            asyncio.run(read(upstream.url))
    assert sum(sizes) <= MAX_BODY_BYTES
    assert max(sizes) <= MAX_BODY_BYTES // 32


def test_what_follows_the_end_of_an_encoded_answer_counts_too() -> None:
    body = gzip.compress(json.dumps(chat_completion("Hello.")).encode()) + bytes(MAX_BODY_BYTES)
    [answer] = outcomes([Reply(body=body, headers={"content-encoding": "gzip"})])
    assert isinstance(answer, InvalidProviderResponse)


def test_encoded_answers_are_not_asked_for_and_read_all_the_same() -> None:
    body, told = json.dumps(chat_completion("Hello.")).encode(), []
    encodings = {"gzip": gzip.compress(body), "deflate": zlib.compress(body), "identity": body}

    async def asked(url: str) -> list[str]:
        provider = OpenAIProvider(key, lambda: NOON, Endpoint(url))
        answers = [
            await provider.complete(MODEL, [Message("user", "Hi")], ModelOptions(), 5) for _ in encodings
        ]
        await provider.close()
        return [answer.text for answer in answers]

    async def key() -> str:
        return "sk-test"

    with loopback.running() as upstream:
        upstream.answers(
            *(Reply(body=data, headers={"content-encoding": n}) for n, data in encodings.items())
        )
        assert asyncio.run(asked(upstream.url)) == ["Hello."] * 3
        told = [headers["accept-encoding"] for headers in upstream.headers]
    assert told == ["identity"] * 3


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, gzip"])
def test_an_encoding_that_is_not_bounded_here_is_not_decoded(encoding: str) -> None:
    [answer] = outcomes([Reply(body=gzip.compress(b"{}"), headers={"content-encoding": encoding})])
    assert isinstance(answer, InvalidProviderResponse)


@pytest.mark.parametrize(
    "header",
    ["9" * 400, "-1", "1.5", "1e5", "NaN", "Mon, 23 Nov 99999 12:00:00 GMT", "Mon, 23 Nov 2026 12:00:30",
     "Mon, 23 Nov 2026 12:00:30 +99999999999999"],
)  # fmt: skip
def test_a_retry_after_that_means_nothing_is_unknown(header: str) -> None:
    [answer] = outcomes([failure(429, retry_after=header)])
    assert isinstance(answer, ProviderError)
    assert answer.retry_after_s is None


def test_tokens_that_an_unreadable_answer_names_are_billed() -> None:
    for answer in outcomes(Reply(body=chat_completion(choices=odd)) for odd in ([], [None], "x")):
        assert isinstance(answer, InvalidProviderResponse)
        assert answer.usage == TokenUsage(1000, 200, 400, 50)
