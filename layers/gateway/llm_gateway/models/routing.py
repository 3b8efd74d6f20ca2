"""Which model a call is for, and which may answer in its place."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from llm_gateway.errors import InvalidParameter, UnknownModel, UnknownProvider
from llm_gateway.models.catalogue import MayUse, ModelCatalogue, ModelSpec, every_model
from llm_gateway.models.options import ModelOptions


@dataclass(frozen=True, slots=True)
class Route:
    """A model that may answer a call, and the options it would be asked with."""

    model: ModelSpec
    options: ModelOptions


class Router:
    """Chooses models from the catalogue.

    Args:
        catalogue: The models there are.
        default_model: `provider/name`, when neither request nor prompt names a model.
    """

    def __init__(self, catalogue: ModelCatalogue, default_model: str) -> None:
        self._catalogue = catalogue
        self._default_model = default_model

    def choose(
        self,
        provider: str | None,
        model: str | None,
        authored: str | None,
        may_use: MayUse = every_model,
    ) -> ModelSpec:
        """The request's choice, else the prompt author's, else the default.

        Args:
            provider: Provider named by the request.
            model: Model named by the request; `provider/name` if it names no provider beside it.
            authored: `provider/name` from the prompt's front matter.
            may_use: Which models an error may name.

        Raises:
            UnknownProvider, UnknownModel: With the nearest names.
            InvalidParameter: A provider alone, where nothing tells which of its models.
        """
        default_provider, _, default_name = (authored or self._default_model).partition("/")
        if model is None and provider in (None, default_provider):
            return self._catalogue.find(default_provider, default_name, may_use)
        if model is None and provider is not None:
            own_provider, _, own_name = self._default_model.partition("/")
            if provider != own_provider:
                self._catalogue.check_provider(provider, may_use)
                raise InvalidParameter(f"Name a model of {provider} as well.", param="model")
            return self._catalogue.find(own_provider, own_name, may_use)
        name = model or ""
        if provider is None and "/" in name:
            provider, _, name = name.partition("/")
        return self._catalogue.find(provider or default_provider, name, may_use)

    def routes(
        self, model: ModelSpec, fallbacks: Sequence[str], requested: ModelOptions, authored: ModelOptions
    ) -> Sequence[Route]:
        """The model, and after it those to ask if it fails.

        Fallbacks that are no model here or do not take what the request demands are left out: they must
        not fail a call that could be answered.

        Args:
            model: Asked first.
            fallbacks: `provider/name` each, in order; those of the catalogue if there are none.
            requested: The request's options.
            authored: The prompt author's.

        Raises:
            InvalidParameter: The model does not take what the request demands.
        """
        routes = [Route(model, model.accepted(requested, authored))]
        for name in fallbacks or model.fallbacks:
            provider, _, fallback = name.partition("/")
            with suppress(UnknownProvider, UnknownModel, InvalidParameter):
                spec = self._catalogue.find(provider, fallback)
                routes.append(Route(spec, spec.accepted(requested, authored)))
        return routes
