"""The gateway's parts in a process of its own: prompts in a folder, usage in a SQLite file, no AWS."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from typing_extensions import override

from llm_gateway.bootstrap.services import Parts
from llm_gateway.errors import ConfigurationError
from llm_gateway.models.endpoint_url import sends_in_clear
from llm_gateway.telemetry.logs import Metrics
from llm_gateway.telemetry.prometheus import PrometheusMetrics

if TYPE_CHECKING:
    from llm_gateway.adapters.local.answers import SqliteOutcomes
    from llm_gateway.adapters.local.prompt_files import FolderPromptFiles
    from llm_gateway.adapters.local.prompt_index import FolderPromptIndex
    from llm_gateway.adapters.local.prompt_watcher import FolderWatch
    from llm_gateway.adapters.local.sqlite_file import SqliteFile
    from llm_gateway.adapters.local.usage import SqliteUsage
    from llm_gateway.adapters.local.worker_threads import WorkerThreads
    from llm_gateway.budgets.holds import BudgetStore
    from llm_gateway.calls.admission import CallLimit
    from llm_gateway.calls.idempotency import OutcomeStore
    from llm_gateway.providers.key_check import KeyCheck
    from llm_gateway.usage.ledger import UsageLedger
    from llm_gateway.usage.rollups import RollupStore


_USAGE_FILE = "usage.db"


class LocalParts(Parts):
    """See Parts; what is not here is the same."""

    _ledger_timeout_s = 5.0  # no Lambda waits, and a disk may be slow

    @cached_property
    def metrics(self) -> PrometheusMetrics:
        """Metrics of this process."""
        return PrometheusMetrics()

    @property
    def usage_path(self) -> Path:
        """Where all is kept."""
        return Path(self.settings.usage_file or _USAGE_FILE).absolute()  # no name, as :memory:, means more

    @cached_property
    def usage_file(self) -> SqliteFile:
        """The file of all that is kept."""
        from llm_gateway.adapters.local.sqlite_file import SqliteFile

        return SqliteFile(self.usage_path)

    @cached_property
    def usage(self) -> SqliteUsage:
        """Ledger and rollups."""
        from llm_gateway.adapters.local.usage import SqliteUsage

        return SqliteUsage(self.usage_file, counts_at_once=True)

    @cached_property
    def outcomes(self) -> SqliteOutcomes:
        """Idempotency keys and what came of their calls."""
        from llm_gateway.adapters.local.answers import SqliteOutcomes

        return SqliteOutcomes(self.usage_file)

    @cached_property
    def folder_index(self) -> FolderPromptIndex:
        """What is current in the folder."""
        from llm_gateway.adapters.local.prompt_index import FolderPromptIndex

        return FolderPromptIndex(Path(self.settings.required("prompt_folder")))

    @cached_property
    @override
    def prompt_index(self) -> FolderPromptIndex:
        return self.folder_index

    @cached_property
    @override
    def prompt_files(self) -> FolderPromptFiles:
        from llm_gateway.adapters.local.prompt_files import FolderPromptFiles

        return FolderPromptFiles(Path(self.settings.required("prompt_folder")))

    @property
    @override
    def _prompt_view_s(self) -> float:
        """Half of the time: the folder may have been looked at just before it changed."""
        return self.settings.prompt_cache_ttl_s / 2

    @cached_property
    def folder_watch(self) -> FolderWatch:
        """Follows the folder, and knows how it is."""
        from llm_gateway.adapters.local.prompt_watcher import FolderWatch

        folder = Path(self.settings.required("prompt_folder"))
        return FolderWatch(
            folder,
            self.indexer,
            self.telemetry,
            lambda: {**self.prompt_files.faults, **self.folder_index.faults},
        )

    @cached_property
    @override
    def rollups(self) -> RollupStore:
        return self.usage

    @cached_property
    def call_limit(self) -> CallLimit:
        """Places for calls, of all entrances."""
        from llm_gateway.calls.admission import CallLimit

        return CallLimit(self.settings.max_concurrent_calls)

    @cached_property
    @override
    def workers(self) -> WorkerThreads:
        """Threads beside the event loop."""
        from llm_gateway.adapters.local.worker_threads import WorkerThreads

        return WorkerThreads()

    @cached_property
    def key_check(self) -> KeyCheck:
        """Whether the providers take the keys."""
        from llm_gateway.providers.key_check import KeyCheck

        return KeyCheck({} if self.settings.test_mode else self._real_providers, self.telemetry)

    @property
    def providers_in_clear(self) -> list[str]:
        """Providers on another machine that are asked without TLS."""
        urls = {"openai": self.settings.openai_base_url}
        urls |= {name: endpoint.base_url for name, endpoint in self.model_catalogue.endpoints.items()}
        return sorted(name for name, url in urls.items() if url is not None and sends_in_clear(url))

    def check_outbound(self) -> None:
        """Build what calls the providers.

        Raises:
            ConfigurationError: The environment, or an address, cannot be used.
        """
        try:
            _ = self._real_providers
        except Exception as error:  # whatever it is, no call could be answered
            raise ConfigurationError(
                "The HTTP client cannot be built from the environment's proxies and certificates and the "
                f"addresses of the providers ({type(error).__name__})."
            ) from error

    @property
    @override
    def readiness(self) -> Mapping[str, Callable[[], Awaitable[object]]]:
        return {
            **super().readiness,
            "prompt_folder": self.folder_watch.check,
            "provider_keys": self.key_check.passed,
            "accepting_calls": self.call_limit.check_open,
        }

    @override
    def _metrics(self, function: str) -> Metrics:
        return self.metrics

    @property
    @override
    def _ledger(self) -> UsageLedger:
        return self.usage

    @property
    @override
    def _outcomes(self) -> OutcomeStore:
        return self.outcomes

    @property
    @override
    def _budget_store(self) -> BudgetStore:
        from llm_gateway.adapters.local.budgets import SqliteBudgets

        return SqliteBudgets(self.usage_file)

    @property
    @override
    def _budget_notices(self) -> None:
        return None
