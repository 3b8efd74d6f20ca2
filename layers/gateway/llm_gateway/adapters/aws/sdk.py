"""Calls to AWS: off the event loop, and with its errors in the gateway's terms."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, ParamSpec, TypeVar

from botocore.exceptions import BotoCoreError, ClientError

from llm_gateway.errors import StoreUnavailable

P = ParamSpec("P")
R = TypeVar("R")

REFUSALS = {
    "ConditionalCheckFailedException",
    "TransactionCanceledException",
    "NoSuchKey",
    "NoSuchVersion",
    "MethodNotAllowed",
    "InvalidArgument",
    "404",
}
"""Codes by which AWS says no, and not that something is wrong."""


class Refused(Exception):
    """AWS understood and said no; whether that is an error is for the caller to say.

    Attributes:
        code: AWS's error code.
        reasons: Codes of a cancelled transaction, one for each of its items.
        item: The item that a condition failed on, if it was asked for.
    """

    def __init__(self, error: ClientError) -> None:
        self.code: str = error.response["Error"]["Code"]
        self.reasons = [str(r.get("Code")) for r in error.response.get("CancellationReasons", [])]
        response: Mapping[str, Any] = error.response
        self.item: Mapping[str, Any] = response.get("Item", {})
        super().__init__(self.code)


async def ask(operation: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
    """Run one boto3 operation in a thread.

    Raises:
        Refused: A condition failed or the thing does not exist.
        StoreUnavailable: Anything else; AWS's code is in the details, its message is not.
    """
    try:
        return await asyncio.to_thread(operation, *args, **kwargs)
    except ClientError as error:
        if error.response["Error"]["Code"] in REFUSALS:
            raise Refused(error) from error
        raise unavailable(str(error.response["Error"]["Code"])) from error
    except BotoCoreError as error:
        raise unavailable(type(error).__name__) from error


def unavailable(reason: str) -> StoreUnavailable:
    """The error for whatever AWS calls `reason`."""
    return StoreUnavailable(
        "A store the gateway depends on did not respond; try again.", details={"reason": reason}
    )
