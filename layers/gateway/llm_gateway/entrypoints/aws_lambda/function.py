"""Loads a function: all that every call needs, while Lambda's init still has the CPU."""

from __future__ import annotations

import gc
import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from llm_gateway.errors import GatewayError

if TYPE_CHECKING:
    from llm_gateway.bootstrap.services import Parts

LambdaHandler = Callable[[Any, Any], dict[str, Any]]


class InvocationFailed(Exception):
    """Ends an invocation; Lambda writes the message into its log and its records, so it is safe there."""


def loaded(function: str, build: Callable[[Parts], LambdaHandler]) -> tuple[Parts, LambdaHandler]:
    """The function's parts and its handler, which logs with the invocation's ids.

    `build` imports what it needs, so that it is imported here: without garbage collection, which would
    look through modules again and again that are never garbage. What is there at the end is set aside
    for good; it makes a cold start a fifth shorter.

    Args:
        function: Name of the function.
        build: Makes its handler.
    """
    gc.disable()
    try:
        parts, handle = _built(function, build)
    finally:
        gc.freeze()
        gc.enable()
    current = [handle]

    def restored() -> None:
        current[0] = _rebuilt(function, build)

    _after_restore(restored)
    return parts, lambda event, context: current[0](event, context)


def _built(function: str, build: Callable[[Parts], LambdaHandler]) -> tuple[Parts, LambdaHandler]:
    from llm_gateway.bootstrap.services import Parts

    parts = Parts.from_env(function)
    logged = parts.telemetry.logger.inject_lambda_context(clear_state=True)
    return parts, logged(_discreet(build(parts), parts))


def _discreet(handle: LambdaHandler, parts: Parts) -> LambdaHandler:
    """The handler with defects that tell their class and place only: their messages may quote content."""

    def discreet(event: Any, context: Any) -> dict[str, Any]:
        try:
            return handle(event, context)
        except (GatewayError, InvocationFailed):
            raise
        except Exception as error:
            parts.telemetry.crashed(error, context.aws_request_id)
            raise InvocationFailed(f"{type(error).__name__}; the log tells where.") from None

    return discreet


def _rebuilt(function: str, build: Callable[[Parts], LambdaHandler]) -> LambdaHandler:
    """The handler as if nothing had been before: no connection, no cache, no clock reading, no seed.

    All environments that are restored from a snapshot share what was in memory when it was taken, and
    its sockets lead nowhere. The modules stay loaded, so this takes milliseconds.
    """
    from llm_gateway.entrypoints.aws_lambda.event_loop import forget_loop

    random.seed()
    forget_loop()
    return _built(function, build)[1]


def _after_restore(work: Callable[[], None]) -> None:
    """Have `work` done in each environment that starts from a snapshot; Lambda's runtime has the hook."""
    try:
        from snapshot_restore_py import register_after_restore
    except ImportError:  # not in Lambda
        return
    register_after_restore(work)
