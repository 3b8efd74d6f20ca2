"""Errors about who calls, part of the tree in llm_gateway/errors.py.

RequestError
├── Unauthorized          401 unauthorized
│   ├── KeyExpired        401 key_expired
│   └── KeyRevoked        401 key_revoked
├── Forbidden             403 forbidden
└── CallRateExceeded      429 call_rate_exceeded      retryable
"""

from __future__ import annotations

from datetime import datetime

from llm_gateway.errors import RequestError


class Unauthorized(RequestError):
    """Nobody knows who calls; the message never tells how close a key came."""

    status = 401
    code = "unauthorized"
    type = "authentication_error"

    def __init__(self, message: str = "") -> None:
        super().__init__(message or "Send a valid gateway key as 'Authorization: Bearer lgw_…'.")


class KeyExpired(Unauthorized):
    """The key is genuine and its time is over; only its holder, who has its secret, learns that."""

    code = "key_expired"

    def __init__(self) -> None:
        super().__init__("Your gateway key has expired; ask the gateway's operators for a new one.")


class KeyRevoked(Unauthorized):
    """The key is genuine and was revoked; only its holder, who has its secret, learns that."""

    code = "key_revoked"

    def __init__(self) -> None:
        super().__init__("Your gateway key was revoked; ask the gateway's operators for a new one.")


class Forbidden(RequestError):
    """The caller is known and may not do this."""

    status = 403
    code = "forbidden"
    type = "permission_error"


class CallRateExceeded(RequestError):
    """The caller's key allows fewer calls in a minute of the clock."""

    status = 429
    code = "call_rate_exceeded"
    type = "rate_limit_error"
    retryable = True

    def __init__(self, most: int, now: datetime) -> None:
        left_s = 60 - now.second
        super().__init__(
            f"Your key allows {most} calls a minute; try again in {left_s} s.",
            details={"calls_per_minute": most},
            retry_after_s=left_s,
        )
