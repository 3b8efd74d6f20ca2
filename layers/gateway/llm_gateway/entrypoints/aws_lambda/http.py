"""An ASGI application as a Lambda function behind API Gateway."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

from mangum import Mangum
from starlette.applications import Starlette

from llm_gateway.entrypoints.aws_lambda.event_loop import event_loop
from llm_gateway.entrypoints.aws_lambda.function import LambdaHandler
from llm_gateway.entrypoints.http.boundary import RequestObserver, error_event
from llm_gateway.errors import InvalidRequest

_PARAMETER = re.compile(r"\{(\w+)\+?\}")


def http_handler(app: Starlette, observer: RequestObserver) -> LambdaHandler:
    """A handler that serves `app` and never raises: its own failures are answers, too."""
    event_loop()
    adapter = Mangum(app, lifespan="off")

    def handle(event: Mapping[str, Any], context: Any) -> dict[str, Any]:
        try:
            event_loop()
            path = _path(event).replace("%", "%25")  # Mangum decodes it, once more
            return adapter({**event, "path": path}, context)
        except UnicodeEncodeError:  # no bytes that a caller sends come to this, but an event is any JSON
            half = InvalidRequest("The request holds half a character (U+D800 to U+DFFF); send UTF-8.")
            observer.refused(half, context.aws_request_id)
            return error_event(half, context.aws_request_id)
        except Exception as error:  # the application answers its own errors: this one is the event's
            observer.crashed(error, context.aws_request_id)
            return error_event(InvalidRequest("The request cannot be read."), context.aws_request_id)

    return handle


def is_http(event: object) -> bool:
    """True for a proxy request of API Gateway, false for a direct invoke, which may be any JSON."""
    return isinstance(event, Mapping) and "requestContext" in event and "httpMethod" in event


def _path(event: Mapping[str, Any]) -> str:
    """The path that was asked for, decoded once and without a custom domain's base path.

    With a custom domain `path` begins with its base path, and nothing in the event says how long that is; the
    resource and the values of its parameters say what follows. A REST API leaves both percent-encoded; an
    event with a `version` (payload format 1.0 of an HTTP API, and the local AWS) has them decoded.
    """
    given, values = str(event["path"]), event.get("pathParameters") or {}
    resource = _PARAMETER.sub(lambda found: str(values.get(found.group(1))), str(event["resource"]))
    path = given
    if given.rstrip("/").endswith(resource):  # API Gateway takes a path with a slash at its end for the same
        path = resource + "/" * (given.endswith("/") and resource != "/")
    return path if "version" in event else unquote(path)
