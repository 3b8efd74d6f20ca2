"""Refuses requests of which two readers could take two different values: a header or a query field twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import parse_qsl

from starlette.types import Scope

from llm_gateway.errors import AmbiguousRequest

_SINGLE_HEADERS = frozenset(
    ("authorization", "idempotency-key", "content-type", "content-length", "content-encoding", "host")
)
_LISTS = frozenset(("group_by",))
_MOST_QUERY_FIELDS = 1_000  # what is more is refused for its unknown names


def refuse_ambiguous(scope: Scope) -> None:
    """Check the head of a request.

    Args:
        scope: Of ASGI; in Lambda with the event in `aws.event`, because the adapter joins equal headers.

    Raises:
        AmbiguousRequest: Naming the header or the query field.
    """
    for name in _repeated(_header_names(scope)):
        if name in _SINGLE_HEADERS:
            raise AmbiguousRequest(f"The header '{name}' is there twice; send one.", param=name)
    if b"&" not in scope["query_string"]:
        return
    pairs = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
    for name in _repeated(name for name, _ in pairs[:_MOST_QUERY_FIELDS]):
        if name not in _LISTS:
            raise AmbiguousRequest("A query field is there twice; send one.", param=name[:200])


def _header_names(scope: Scope) -> Iterable[str]:
    given: Mapping[str, Any] | None = (scope.get("aws.event") or {}).get("multiValueHeaders")
    if given:
        return (name.lower() for name, values in given.items() for _ in values or ())
    return (name.decode("latin-1") for name, _ in scope["headers"])


def _repeated(names: Iterable[str]) -> list[str]:
    return [name for name, times in Counter(names).items() if times > 1]
