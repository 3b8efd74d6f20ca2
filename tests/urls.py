"""Requests that no endpoint takes, and what both worlds answer: the process and the stack."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class WrongRequest:
    """A request and its answer.

    Attributes:
        method: Its method.
        path: Its path.
        keyed: True if it comes with a valid key.
        status: The answer's status.
        code: The answer's code.
        allow: What the header `Allow` says.
    """

    method: str
    path: str
    keyed: bool
    status: int
    code: str
    allow: str | None = None


def _wrong_methods() -> list[WrongRequest]:
    reading = [
        "/v1/models",
        "/v1/prompts",
        "/v1/prompts/doors/open.md",
        "/v1/usage",
        "/health",
        "/health/ready",
    ]
    places = [("/v1/call", "POST"), *((path, "GET") for path in reading)]
    methods = ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
    return [
        WrongRequest(method, path, True, 405, "method_not_allowed", allow)
        for path, allow in places
        for method in methods
        if method != allow
    ]


WRONG_REQUESTS = [
    *_wrong_methods(),
    *(
        WrongRequest(method, path, keyed, 404, "route_not_found")
        for method in ("GET", "POST")
        for path in ("/", "/nowhere", "/v1", "/v1/calls", "/v2/call", "/health/live", "/v1/call/more")
        for keyed in (True, False)
    ),
    *(
        WrongRequest("GET", path, True, 404, "route_not_found")
        for path in ("/v1/models/", "/v1/prompts/", "/v1/usage/", "/health/")
    ),
    WrongRequest("POST", "/v1/call/", True, 404, "route_not_found"),
    # Who calls is asked before what: without a key nothing is told of an endpoint that needs one.
    WrongRequest("GET", "/v1/call", False, 401, "unauthorized"),
    WrongRequest("DELETE", "/v1/prompts/doors/open.md", False, 401, "unauthorized"),
    WrongRequest("POST", "/health", False, 405, "method_not_allowed", "GET"),
]
