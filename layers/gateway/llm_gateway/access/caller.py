"""Who calls, and what they may do; where keys are kept is none of this module's business."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Literal, Protocol, get_args

from llm_gateway.access.errors import Forbidden
from llm_gateway.access.reach import Reach
from llm_gateway.formats import known_fields
from llm_gateway.json_schema.values import Json

Method = Literal["CallPrompt", "ListPrompts", "GetPromptMetadata", "GetUsageStats", "ListModels"]
METHODS: tuple[Method, ...] = get_args(Method)
_MOST_BOUNDS = 5  # a message is one sentence


@dataclass(frozen=True, slots=True)
class Scopes:
    """What a caller may do; None is no bound.

    Attributes:
        methods: The methods it may call.
        prompts: Its prompts: below a directory (`support/`) or a single file (`support/reply.prompt`); keys
            of earlier versions may have any other beginning of paths, see `Reach`.
        models: Its models, `provider/name`; `*` stands for any text (`openai/gpt-4o*`).
        all_usage: True may see what other services spent.
        calls_per_minute: How many calls it may make in a minute of the clock.
    """

    methods: tuple[Method, ...] | None = None
    prompts: tuple[str, ...] | None = None
    models: tuple[str, ...] | None = None
    all_usage: bool = False
    calls_per_minute: int | None = None


@dataclass(frozen=True, slots=True)
class Caller:
    """Whoever calls.

    Attributes:
        service: Who they proved to be; None believes what the request says.
        key_id: The key they came with, None if it was not a key.
        scopes: What they may do.
    """

    service: str | None
    key_id: str | None = None
    scopes: Scopes = field(default_factory=Scopes)

    def permit(self, method: Method) -> None:
        """Raise Forbidden if the caller may not use `method`."""
        if self.scopes.methods is not None and method not in self.scopes.methods:
            raise Forbidden(
                f"Your key does not allow {method}; ask the gateway's operators for one that does."
            )

    @property
    def reach(self) -> Reach:
        """The prompts that the caller may see and call."""
        return Reach(self.scopes.prompts)

    def permit_prompt(self, name: str) -> None:
        """Raise Forbidden if the prompt is out of reach, whether it exists or not.

        Args:
            name: As the caller wrote it, perhaps without the extension.
        """
        if not self.reach.may_name(name):
            raise Forbidden(f"Your key does not allow this prompt{self._opened}.", param="prompt")

    @property
    def _opened(self) -> str:
        """The first bounds of the caller's own key, which help to find a slip of the pen."""
        bounds = [bound for bound in self.scopes.prompts or () if bound]
        return f"; it allows {', '.join(bounds[:_MOST_BOUNDS])}" if 0 < len(bounds) <= _MOST_BOUNDS else ""

    def permit_model(self, model: str) -> None:
        """Raise Forbidden if the model, as `provider/name`, is out of reach."""
        if not self.may_use(model):
            raise Forbidden("Your key does not allow this model; name one that it does.", param="model")

    def may_use(self, model: str) -> bool:
        """True if the model, as `provider/name`, is within reach."""
        return self.scopes.models is None or any(fnmatchcase(model, bound) for bound in self.scopes.models)

    def service_for(self, claimed: str | None) -> str | None:
        """The service that a call is recorded under.

        Raises:
            Forbidden: The request claims to come from another one.
        """
        if self.service is None:
            return claimed
        if claimed not in (None, self.service):
            raise Forbidden(
                "'calling_service' is not the service your key belongs to; leave it out.",
                param="calling_service",
            )
        return self.service

    def usage_filter(self, asked: str | None) -> str | None:
        """The service that a question about usage is narrowed to; None is all of them.

        Raises:
            Forbidden: It asks for another service, and the caller may only see its own.
        """
        if self.service is None or self.scopes.all_usage:
            return asked
        if asked not in (None, self.service):
            raise Forbidden("Your key shows the usage of its own service only.", param="calling_service")
        return self.service


OPEN = Caller(service=None)
"""Whoever may call because access is open, or because AWS IAM has let them in; they say who they are."""


class Callers(Protocol):
    """Authenticates callers."""

    async def authenticate(self, authorization: str | None) -> Caller:
        """Who sent this `Authorization` header.

        Raises:
            Unauthorized: Nobody that is known.
            StoreUnavailable: It cannot be told right now.
        """
        ...


class OpenCallers:
    """Lets every caller in: access is open."""

    async def authenticate(self, authorization: str | None) -> Caller:  # noqa: ARG002 (it proves nothing)
        """A caller without bounds, who says itself which service it is."""
        return OPEN


class CallRates(Protocol):
    """Counts calls by key and minute."""

    async def take(self, caller: Caller) -> None:
        """Count one call.

        Raises:
            CallRateExceeded: The minute's calls are used up.
            StoreUnavailable: It cannot be told right now.
        """
        ...


def scopes_from(facts: Mapping[str, Json]) -> Scopes:
    """Scopes from their stored form; fields that this version does not know are ignored."""
    values: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in known_fields(Scopes, facts).items()
    }
    return Scopes(**values)
