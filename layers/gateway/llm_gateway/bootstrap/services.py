"""The composition root: settings in, working parts out, each built once and only if asked for."""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

from llm_gateway.bootstrap.settings import Settings
from llm_gateway.bootstrap.stores import StoreParts, new_id, utc_now
from llm_gateway.errors import ConfigurationError, InvalidRequest

if TYPE_CHECKING:
    from llm_gateway.access.caller import Callers
    from llm_gateway.access.keys import Keys
    from llm_gateway.budgets.budgets import Budgets
    from llm_gateway.calls.admission import GuardedCalls
    from llm_gateway.calls.completer import Completer
    from llm_gateway.calls.idempotency import IdempotentCalls
    from llm_gateway.gateway import Gateway
    from llm_gateway.models.catalogue import ModelCatalogue
    from llm_gateway.models.provider import Provider
    from llm_gateway.providers.openai.adapter import OpenAIProvider
    from llm_gateway.usage.record_names import RecordNames


class Parts(StoreParts):
    """The gateway's parts on AWS: what answers calls, on top of where things are kept.

    A part's modules are imported when it is built: a function that lists prompts never loads a
    template engine, one that sums usage never loads a vendor's SDK.

    Args:
        settings: The configuration.
        function: Name of the function, for logs and metrics.
    """

    @classmethod
    def from_env(cls, function: str) -> Parts:
        """Parts configured by the environment."""
        return cls(Settings.from_env(), function)

    @cached_property
    def calls(self) -> IdempotentCalls:
        """CallPrompt, once for each idempotency key."""
        from llm_gateway.calls.idempotency import IdempotentCalls

        return IdempotentCalls(
            self.gateway,
            self._outcomes,
            self.telemetry,
            ttl_s=self.settings.idempotency_ttl_s,
            now=utc_now,
            new_id=new_id,
            workers=self.workers,
        )

    @cached_property
    def guarded_calls(self) -> GuardedCalls:
        """The same, for callers who may not all do the same."""
        from llm_gateway.calls.admission import GuardedCalls

        return GuardedCalls(self.calls, self._call_rates, self.record_names)

    @cached_property
    def record_names(self) -> RecordNames:
        """Bounds the names that callers bring into records."""
        from llm_gateway.usage.record_names import RecordNames

        names = RecordNames(lambda field: self.telemetry.warn("names folded", field=field))
        if self.budgets is not None:
            names.services.know(self.budgets.services)
        for spec in self.model_catalogue:
            names.models.know((spec.name, *spec.aliases))
        return names

    @cached_property
    def callers(self) -> Callers:
        """Authenticates callers by their keys, or lets every caller in if access is open."""
        if self.settings.access == "open":
            from llm_gateway.access.caller import OpenCallers

            return OpenCallers()
        from llm_gateway.access.keys import KeyCallers

        kept_s = self.settings.key_cache_ttl_s
        return KeyCallers(self.key_store, self.pepper, now=utc_now, clock=time.monotonic, kept_s=kept_s)

    @cached_property
    def keys(self) -> Keys:
        """The gateway keys, to make and to end."""
        from llm_gateway.access.keys import Keys

        return Keys(self.key_store, self.pepper, utc_now)

    @cached_property
    def gateway(self) -> Gateway:
        """CallPrompt."""
        from llm_gateway.gateway import Gateway, GatewayLimits
        from llm_gateway.models.routing import Router
        from llm_gateway.prompts.catalogue.catalogue import Catalogue

        settings = self.settings
        catalogue = Catalogue(
            self.prompt_index,
            self.prompt_files,
            ttl_s=self._prompt_view_s,
            cache_bytes=settings.prompt_cache_bytes,
            clock=time.monotonic,
            workers=self.workers,
            unchecked=self.telemetry.prompts_unchecked,
        )
        return Gateway(
            prompts=catalogue,
            router=Router(self.model_catalogue, settings.default_model),
            completer=self._completer,
            ledger=self._ledger,
            observer=self.telemetry,
            limits=GatewayLimits(
                settings.default_timeout_s, settings.max_rendered_chars, self._ledger_timeout_s
            ),
            now=utc_now,
            new_id=new_id,
            test_mode=settings.test_mode,
            rehearsals=lambda: self._rehearsals,
            budgets=self.budgets,
            workers=self.workers,
            names=self.record_names,
        )

    @property
    def _prompt_view_s(self) -> float:
        """How long a view of what is current goes unchecked."""
        return self.settings.prompt_cache_ttl_s

    @cached_property
    def budgets(self) -> Budgets | None:
        """What services may spend; None, and nothing is loaded, if nobody has a budget."""
        if self.settings.budgets is None:
            return None
        from llm_gateway.budgets.budgets import Budgets
        from llm_gateway.budgets.limits import read_budgets

        limits = read_budgets(self.settings.budgets)
        return Budgets(limits, self._budget_store, self._budget_notices, self.telemetry)

    @cached_property
    def deployment_check(self) -> Mapping[str, Any]:
        """What a new version is called with."""
        from llm_gateway.validation import decode_json

        try:
            return decode_json(self.settings.deployment_check.encode())
        except InvalidRequest as error:
            raise ConfigurationError(f"LLM_GATEWAY_DEPLOYMENT_CHECK: {error.message}") from error

    @cached_property
    def model_catalogue(self) -> ModelCatalogue:
        """What can be called."""
        from llm_gateway.models.catalogue import ModelCatalogue

        catalogue = ModelCatalogue.packaged()
        settings = self.settings
        if settings.models is None and settings.models_file is None:
            return catalogue
        from llm_gateway.models.overlay import overlaid

        if settings.models_file is not None:
            from llm_gateway.bootstrap.models_file import read_models_file

            text = read_models_file(settings.models_file, lambda: self._aws.s3)
            catalogue = overlaid(catalogue, text, "LLM_GATEWAY_MODELS_FILE")
        return catalogue if settings.models is None else overlaid(catalogue, settings.models)

    @cached_property
    def _completer(self) -> Completer:
        return self._rehearsals if self.settings.test_mode else self._completer_of(self._real_providers)

    @cached_property
    def _rehearsals(self) -> Completer:
        """What answers in test mode, of the deployment or of one call."""
        return self._completer_of(self._fake_providers)

    def _completer_of(self, providers: Mapping[str, Provider]) -> Completer:
        from llm_gateway.calls.completer import Completer, RetryPolicy

        settings = self.settings
        retries = RetryPolicy(
            settings.retry_limit, settings.retry_first_wait_s, settings.retry_longest_wait_s
        )
        return Completer(providers, retries)

    @property
    def _fake_providers(self) -> Mapping[str, Provider]:
        from llm_gateway.providers.fake.provider import FakeProvider, realistic_latency

        latency = realistic_latency if self.settings.test_latency == "realistic" else None
        return dict.fromkeys(self.model_catalogue.providers, FakeProvider(latency, self.workers))

    @cached_property
    def _real_providers(self) -> Mapping[str, OpenAIProvider]:
        from llm_gateway.models.catalogue import Endpoint
        from llm_gateway.providers.openai.lazy_types import load_types_lazily

        if self.settings.lazy_imports:
            load_types_lazily()
        from llm_gateway.providers.keys import ProviderKey
        from llm_gateway.providers.openai.adapter import Account, OpenAIProvider

        settings, keys = self.settings, self.provider_keys
        endpoints = {"openai": Endpoint(settings.openai_base_url), **self.model_catalogue.endpoints}
        accounts = {"openai": Account(settings.openai_org_id, settings.openai_project_id)}
        return {
            name: OpenAIProvider(
                ProviderKey(keys, name),
                utc_now,
                endpoint,
                self._http,
                accounts.get(name, Account()),
                self.workers,
            )
            for name, endpoint in endpoints.items()
        }
