"""The application around the routers, without Lambda."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx2
import pytest
from fastapi import APIRouter, FastAPI
from starlette.requests import Request

from llm_gateway.entrypoints.http.app import create_app
from llm_gateway.entrypoints.http.json_body import read_body
from llm_gateway.errors import BodyTooLarge
from llm_gateway.models.errors import ProviderRateLimited
from llm_gateway.validation import decode_json
from tests.fakes import RecordingObserver


def app(observer: RecordingObserver) -> FastAPI:
    routes = APIRouter()

    @routes.get("/things/{name}")
    async def thing(name: str) -> dict[str, str]:
        if name == "defect":
            raise RuntimeError("SECRET CONTENT")
        if name == "busy":
            raise ProviderRateLimited("Slow down.", retry_after_s=6.6)
        return {"name": name}

    @routes.post("/body")
    async def body(request: Request) -> int:
        return len(decode_json(await read_body(request, 100)))

    return create_app(routes, observer=observer)


def ask(observer: RecordingObserver, method: str, path: str, **more: object) -> httpx2.Response:
    async def asked() -> httpx2.Response:
        transport = httpx2.ASGITransport(app(observer))
        async with httpx2.AsyncClient(transport=transport, base_url="http://gateway") as client:
            return await client.request(method, path, **more)  # type: ignore[arg-type]

    return asyncio.run(asked())


def test_a_defect_is_a_plain_500_that_tells_nothing() -> None:
    observer = RecordingObserver()
    response = ask(observer, "GET", "/things/defect")
    error = response.json()["error"]
    assert (response.status_code, error["code"]) == (500, "internal_error")
    assert "SECRET" not in response.text
    assert error["request_id"] == response.headers["x-request-id"]
    assert [type(crash) for crash in observer.crashes] == [RuntimeError]


def test_every_request_is_told_of_by_its_route_and_not_by_what_the_caller_filled_in() -> None:
    observer = RecordingObserver()
    for path in ("/things/one", "/things/defect", "/nowhere/else"):
        ask(observer, "GET", path)
    assert [(facts["path"], facts["status"]) for _, facts in observer.notes] == [
        ("/things/{name}", 200),
        ("/things/{name}", 500),
        ("unknown", 404),
    ]


def test_when_to_try_again_is_in_the_header() -> None:
    response = ask(RecordingObserver(), "GET", "/things/busy")
    assert (response.status_code, response.headers["retry-after"]) == (429, "7")


def test_each_request_gets_an_id_of_its_own() -> None:
    ids = {ask(RecordingObserver(), "GET", "/things/one").headers["x-request-id"] for _ in range(3)}
    assert len(ids) == 3


@pytest.mark.parametrize("declared", [True, False])
def test_no_more_of_a_body_is_read_than_is_allowed(declared: bool) -> None:
    sent = 0

    async def chunks() -> AsyncIterator[bytes]:
        nonlocal sent
        for _ in range(1000):
            sent += 50
            yield b" " * 50

    headers = {"content-type": "application/json"} | ({"content-length": "50000"} if declared else {})
    observer = RecordingObserver()
    response = ask(observer, "POST", "/body", content=chunks(), headers=headers)
    assert response.status_code == 413
    assert isinstance(observer.refusals[0], BodyTooLarge)
    assert sent <= 150
