"""The names that a record may have: what callers invent makes no rows of sums and no series without end.

A record is folded before it is written, so the ledger, its sums, a rebuild of them, metrics and log lines
have the same names and agree.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from llm_gateway.usage.record import UsageRecord

OTHER = "(other)"
"""What stands for every name beyond the bound."""

MOST_SERVICES = 1_000
MOST_MODELS = 100


class BoundedNames:
    """Names that are known, and so many more in the order in which they come.

    Args:
        most: How many names callers may add, first come first served.
        full: Is called once, when a name is folded for the first time.
    """

    def __init__(self, most: int, full: Callable[[], None]) -> None:
        self._most = most
        self._full = full
        self._known: set[str] = set()
        self._added: set[str] = set()
        self._warned = False

    def know(self, names: Iterable[str]) -> None:
        """Let names through that were not chosen by a caller; they do not count towards the bound."""
        self._known.update(names)

    def folded(self, name: str) -> str:
        """The name, or OTHER if there are too many already."""
        if name in self._known or name in self._added:
            return name
        if len(self._added) < self._most:
            self._added.add(name)
            return name
        if not self._warned:
            self._warned = True
            self._full()
        return OTHER


class RecordNames:
    """Folds the calling service and the model of records, which callers may invent.

    Prompts and their versions exist, providers and statuses are on a list; services that proved who they are,
    and models of the catalogue, are known and never folded.

    Args:
        full: Is told once for each field (`calling_service`, `model`) that names are folded from now on.
        most_services: Names of services that callers may bring up themselves.
        most_models: Names of models that are in no catalogue, such as dated ones.
    """

    def __init__(
        self,
        full: Callable[[str], None] = lambda _: None,
        *,
        most_services: int = MOST_SERVICES,
        most_models: int = MOST_MODELS,
    ) -> None:
        self.services = BoundedNames(most_services, lambda: full("calling_service"))
        self.models = BoundedNames(most_models, lambda: full("model"))

    def folded(self, record: UsageRecord) -> UsageRecord:
        """The record under names that are bounded in number."""
        service, model = record.calling_service, self.models.folded(record.model)
        if service is not None:
            service = self.services.folded(service)
        if (service, model) == (record.calling_service, record.model):
            return record
        return replace(record, calling_service=service, model=model)
