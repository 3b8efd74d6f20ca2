"""An ASGI application as a Lambda function behind API Gateway."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mangum import Mangum
from starlette.applications import Starlette

from llm_gateway.entrypoints.event_loop import event_loop
from llm_gateway.entrypoints.http.boundary import RequestObserver, error_event
from llm_gateway.entrypoints.loading import LambdaHandler
from llm_gateway.errors import InvalidRequest


def http_handler(app: Starlette, observer: RequestObserver) -> LambdaHandler:
    """A handler that serves `app` and never raises: its own failures are answers, too."""
    event_loop()
    adapter = Mangum(app, lifespan="off")

    def handle(event: Mapping[str, Any], context: Any) -> dict[str, Any]:
        try:
            event_loop()
            return adapter(dict(event), context)
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
