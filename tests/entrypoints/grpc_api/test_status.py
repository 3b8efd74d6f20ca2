"""What a gRPC client is told of an error, and that it fits into the trailers."""

from __future__ import annotations

from typing import Any

import pytest
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status
from grpc import StatusCode
from hypothesis import given
from hypothesis import strategies as st

from llm_gateway import errors
from llm_gateway.access import errors as access_errors
from llm_gateway.api.calls import CallRequest
from llm_gateway.entrypoints.grpc_api import status
from llm_gateway.errors import BudgetExceeded, GatewayError, InvalidParameter, InvalidRequest, Overloaded
from llm_gateway.models import errors as provider_errors
from llm_gateway.models.errors import ProviderError, ProviderTimeout
from llm_gateway.validation import validated

_MOST_TRAILER_BYTES = 8_000
# What is derived from these means the same to a client: mend the request, or report nonsense of the vendor.
_HANDED_DOWN = (InvalidRequest, provider_errors.InvalidProviderResponse)


def tree(root: type[GatewayError]) -> list[type[GatewayError]]:
    return [root, *(below for child in root.__subclasses__() for below in tree(child))]


CLASSES = [kind for kind in tree(GatewayError) if kind.__module__.startswith("llm_gateway.")]


@pytest.mark.parametrize("kind", CLASSES)
def test_every_error_has_its_own_line_in_the_table(kind: type[GatewayError]) -> None:
    assert kind in status.STATUS or issubclass(kind, _HANDED_DOWN)


def test_the_classes_are_those_of_all_branches() -> None:
    modules = {kind.__module__ for kind in CLASSES}
    assert {module.__name__ for module in (errors, access_errors, provider_errors)} <= modules


@pytest.mark.parametrize("kind", CLASSES)
def test_a_status_agrees_with_http_about_whose_turn_it_is(kind: type[GatewayError]) -> None:
    code = status.STATUS[next(base for base in kind.__mro__ if base in status.STATUS)]
    if kind.status in (401, 403, 404):
        assert code in (StatusCode.UNAUTHENTICATED, StatusCode.PERMISSION_DENIED, StatusCode.NOT_FOUND,
                        StatusCode.UNIMPLEMENTED)  # fmt: skip
    if code is StatusCode.UNAVAILABLE:
        assert kind.retryable, "clients repeat it by themselves"
    if code is StatusCode.INTERNAL:
        assert kind.status == 500
    if issubclass(kind, ProviderError):
        assert code not in (StatusCode.UNAUTHENTICATED, StatusCode.PERMISSION_DENIED, StatusCode.INTERNAL)


def details_of(error: GatewayError) -> tuple[Status, ErrorInfo, BadRequest, RetryInfo]:
    trailers = dict(status.trailers(error, "req-1"))
    told = Status.FromString(trailers[status.DETAILS_TRAILER])
    found: tuple[Any, ...] = (ErrorInfo(), BadRequest(), RetryInfo())
    for detail in told.details:
        for kind in found:
            if detail.Is(kind.DESCRIPTOR):
                detail.Unpack(kind)
    return (told, *found)


def test_an_error_is_told_with_reason_facts_and_the_time_to_come_back() -> None:
    error = BudgetExceeded("Too much.", details={"window": "day", "limit": 5}, retry_after_s=90.5)
    told, info, bad, retry = details_of(error)
    assert (told.code, told.message) == (StatusCode.RESOURCE_EXHAUSTED.value[0], "Too much.")
    assert (info.reason, info.domain) == ("budget_exceeded", "llm-gateway")
    assert dict(info.metadata) == {
        "request_id": "req-1",
        "retryable": "false",
        "type": "budget_error",
        "window": "day",
        "limit": "5",
    }
    assert retry.retry_delay.ToMilliseconds() == 90_500
    assert not bad.field_violations


def test_all_fields_at_fault_are_told_by_their_names_in_the_contract() -> None:
    with pytest.raises(InvalidParameter) as caught:
        validated(CallRequest, {"prompt": "x", "timeout_s": 4.0, "parameters": {"top_p": 2.0}})
    _, info, bad, _ = details_of(caught.value)
    assert {violation.field: violation.description for violation in bad.field_violations} == {
        "parameters.top_p": "must be at most 1",
        "timeout": "must be at least 5",
    }
    assert "problems" not in info.metadata


def test_retryable_is_told_as_the_class_says() -> None:
    for error, retryable in ((Overloaded("x"), "true"), (ProviderTimeout("x"), "true")):
        assert details_of(error)[1].metadata["retryable"] == retryable


@given(
    st.text(max_size=3_000),
    st.none() | st.text(max_size=300),
    st.dictionaries(
        st.text(max_size=300), st.text(max_size=2_000) | st.lists(st.text(max_size=50)), max_size=30
    ),
    st.lists(st.text(max_size=400), max_size=60),
)
def test_whatever_there_is_to_tell_fits_into_what_clients_take(
    message: str, param: str | None, facts: dict[str, Any], fields: list[str]
) -> None:
    problems: Any = [{"param": field, "problem": "is too long " * 30} for field in fields]
    error = InvalidParameter(message, param=param, details={**facts, "problems": problems})
    told, info, _, _ = details_of(error)
    # As HTTP/2 carries them: binary in base64, text with every odd byte as three.
    size = len(told.SerializeToString()) * 4 / 3 + len(status.message_of(error).encode()) * 3
    assert size < _MOST_TRAILER_BYTES
    assert told.message == status.message_of(error)
    assert (info.reason, info.metadata["request_id"]) == ("invalid_parameter", "req-1")
