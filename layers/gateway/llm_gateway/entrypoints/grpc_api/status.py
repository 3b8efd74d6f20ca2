"""What a gRPC client is told of an error: a status code, and google.rpc's details in the trailers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status
from grpc import StatusCode

from llm_gateway import errors
from llm_gateway.access import errors as access_errors
from llm_gateway.entrypoints.grpc_api.messages import JSON_NAMES
from llm_gateway.errors import GatewayError
from llm_gateway.json_schema.values import Json
from llm_gateway.models import errors as provider_errors

DOMAIN = "llm-gateway"
DETAILS_TRAILER = "grpc-status-details-bin"
REQUEST_ID_TRAILER = "x-request-id"
Trailers = tuple[tuple[str, str | bytes], ...]

# UNAVAILABLE is what clients repeat by themselves, and INTERNAL what wakes the gateway's operators.
STATUS: Mapping[type[GatewayError], StatusCode] = {
    errors.GatewayError: StatusCode.INTERNAL,
    errors.RequestError: StatusCode.INVALID_ARGUMENT,
    errors.InvalidRequest: StatusCode.INVALID_ARGUMENT,
    errors.PromptNotFound: StatusCode.NOT_FOUND,
    errors.RouteNotFound: StatusCode.UNIMPLEMENTED,
    errors.MethodNotAllowed: StatusCode.UNIMPLEMENTED,
    errors.RequestTimedOut: StatusCode.DEADLINE_EXCEEDED,
    errors.LabelMoved: StatusCode.ABORTED,
    errors.IdempotencyKeyReused: StatusCode.ALREADY_EXISTS,
    errors.IdempotencyKeyInUse: StatusCode.ABORTED,
    errors.CallInterrupted: StatusCode.FAILED_PRECONDITION,
    errors.AnswerNotKept: StatusCode.FAILED_PRECONDITION,
    errors.BodyTooLarge: StatusCode.RESOURCE_EXHAUSTED,
    errors.HeadersTooLarge: StatusCode.RESOURCE_EXHAUSTED,
    errors.UnsupportedMediaType: StatusCode.INVALID_ARGUMENT,
    errors.PromptBroken: StatusCode.FAILED_PRECONDITION,
    errors.BudgetExceeded: StatusCode.RESOURCE_EXHAUSTED,
    errors.StoreUnavailable: StatusCode.UNAVAILABLE,
    errors.Overloaded: StatusCode.RESOURCE_EXHAUSTED,
    errors.CallCancelled: StatusCode.CANCELLED,
    errors.ConfigurationError: StatusCode.INTERNAL,
    access_errors.Unauthorized: StatusCode.UNAUTHENTICATED,
    access_errors.KeyExpired: StatusCode.UNAUTHENTICATED,
    access_errors.KeyRevoked: StatusCode.UNAUTHENTICATED,
    access_errors.Forbidden: StatusCode.PERMISSION_DENIED,
    access_errors.CallRateExceeded: StatusCode.RESOURCE_EXHAUSTED,
    provider_errors.ProviderError: StatusCode.UNKNOWN,
    provider_errors.ProviderTimeout: StatusCode.DEADLINE_EXCEEDED,
    provider_errors.ProviderRateLimited: StatusCode.RESOURCE_EXHAUSTED,
    provider_errors.ProviderUnavailable: StatusCode.UNAVAILABLE,
    provider_errors.ProviderQuotaExhausted: StatusCode.FAILED_PRECONDITION,
    provider_errors.ProviderAuthFailed: StatusCode.FAILED_PRECONDITION,
    provider_errors.ProviderRejected: StatusCode.FAILED_PRECONDITION,
    provider_errors.ContentFiltered: StatusCode.FAILED_PRECONDITION,
    provider_errors.ModelRefused: StatusCode.FAILED_PRECONDITION,
    provider_errors.AnswerTruncated: StatusCode.FAILED_PRECONDITION,
    provider_errors.AnswerNotJson: StatusCode.UNKNOWN,
    provider_errors.AnswerViolatesSchema: StatusCode.UNKNOWN,
    provider_errors.InvalidProviderResponse: StatusCode.UNKNOWN,
}
"""By class; a class that is not named has the status of the one it is derived from."""

# Clients take 8 KB of trailers, in which the message stands twice and all bytes grow by a third or more.
_MOST_MESSAGE_BYTES = 700
_MOST_INFO_BYTES = 1_200
_MOST_FIELDS_BYTES = 1_000
_MOST_FIELD_BYTES = 200
_JSON_FIELDS = {json_name: name for name, json_name in JSON_NAMES.items()}


def status_of(error: GatewayError) -> StatusCode:
    """The status code of an error."""
    return next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)


def message_of(error: GatewayError) -> str:
    """The error's message, cut to what trailers hold."""
    return _cut(error.message, _MOST_MESSAGE_BYTES)


def trailers(error: GatewayError, request_id: str) -> Trailers:
    """What goes with the status code: everything that the JSON API's error has."""
    status = Status(code=status_of(error).value[0], message=message_of(error))
    for detail in (_error_info(error, request_id), _retry_info(error), _bad_request(error)):
        if detail is not None:
            status.details.add().Pack(detail)
    return ((REQUEST_ID_TRAILER, request_id), (DETAILS_TRAILER, status.SerializeToString()))


def _error_info(error: GatewayError, request_id: str) -> ErrorInfo:
    facts = {"request_id": request_id, "type": error.type, "retryable": json.dumps(error.retryable)}
    info = ErrorInfo(reason=error.code, domain=DOMAIN, metadata=facts)
    told_elsewhere = {*facts} if error.param is None else {*facts, "problems"}
    for name in sorted(error.details.keys() - told_elsewhere):
        text = _text(error.details[name])
        if info.ByteSize() + len(f"{name}{text}".encode()) <= _MOST_INFO_BYTES:
            info.metadata[name] = text
    return info


def _retry_info(error: GatewayError) -> RetryInfo | None:
    if error.retry_after_s is None:
        return None
    delay = Duration()
    delay.FromNanoseconds(round(error.retry_after_s * 1e9))
    return RetryInfo(retry_delay=delay)


def _bad_request(error: GatewayError) -> BadRequest | None:
    """The fields at fault: all that were found, as far as there is room, else the one."""
    if error.param is None:
        return None
    told = BadRequest()
    for field, description in _violations(error):
        if told.ByteSize() > _MOST_FIELDS_BYTES:
            break
        name = _cut(_JSON_FIELDS.get(field, field), _MOST_FIELD_BYTES)
        told.field_violations.add(field=name, description=_cut(description, _MOST_FIELD_BYTES))
    return told


def _violations(error: GatewayError) -> Sequence[tuple[str, str]]:
    problems = error.details.get("problems")
    found = [
        (str(problem["param"]), str(problem["problem"]))
        for problem in (problems if isinstance(problems, list) else ())
        if isinstance(problem, dict) and {"param", "problem"} <= problem.keys()
    ]
    return found or [(error.param or "", error.message)]


def _text(value: Json) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _cut(text: str, most_bytes: int) -> str:
    encoded = text.encode()
    return text if len(encoded) <= most_bytes else encoded[: most_bytes - 3].decode(errors="ignore") + "…"
