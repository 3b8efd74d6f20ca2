"""Builds the stores, queues and event buses that the settings name.

The lower half of the composition root; services.py builds the gateway on it.
"""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from llm_gateway.bootstrap.settings import Settings
from llm_gateway.telemetry.cloudwatch import EmbeddedMetrics
from llm_gateway.telemetry.logs import Metrics, Telemetry
from llm_gateway.workers import INLINE, Workers

if TYPE_CHECKING:
    from botocore.config import Config
    from httpx2 import AsyncClient
    from mypy_boto3_codedeploy import CodeDeployClient
    from mypy_boto3_lambda import LambdaClient

    from llm_gateway.access.caller import CallRates
    from llm_gateway.access.keys import KeyStore, Pepper
    from llm_gateway.adapters.aws.clients import AwsClients
    from llm_gateway.adapters.aws.deployment import CheckedVersion
    from llm_gateway.adapters.aws.ledger import PutItem
    from llm_gateway.adapters.aws.ledger_reader import DynamoLedgerReader
    from llm_gateway.adapters.aws.prompt_files import S3PromptFiles
    from llm_gateway.adapters.aws.prompt_index import DynamoPromptIndex
    from llm_gateway.adapters.aws.result_queue import SqsQueue
    from llm_gateway.adapters.aws.rollup_repair import DynamoRollupRepair
    from llm_gateway.adapters.aws.usage_events import EventBridgeBus
    from llm_gateway.adapters.local.prompt_files import FolderPromptFiles
    from llm_gateway.adapters.local.prompt_index import FolderPromptIndex
    from llm_gateway.adapters.local.usage_repair import SqliteUsageRepair
    from llm_gateway.budgets.budgets import BudgetNotices
    from llm_gateway.budgets.holds import BudgetStore
    from llm_gateway.calls.idempotency import OutcomeStore
    from llm_gateway.prompts.catalogue.indexing import PromptIndexer
    from llm_gateway.providers.keys import Read
    from llm_gateway.usage.ledger import UsageLedger
    from llm_gateway.usage.rollups import RollupStore


class StoreParts:
    """Stores, queues and buses on AWS, each built once and only if asked for; see bootstrap.Parts.

    Args:
        settings: The configuration.
        function: Name of the function, for logs and metrics.
    """

    def __init__(self, settings: Settings, function: str) -> None:
        self.settings = settings
        metrics = self._metrics(function)
        self.telemetry = Telemetry(function, settings.environment, settings.log_level, metrics)
        self.now = utc_now

    @property
    def key_store(self) -> KeyStore:
        """The gateway keys as they are kept."""
        if self.settings.key_file is not None:
            from llm_gateway.adapters.local.keys import FileKeys

            return FileKeys(Path(self.settings.key_file))
        from llm_gateway.adapters.aws.keys import DynamoKeys

        return DynamoKeys(self._aws.dynamodb, self.settings.required("key_table"))

    @property
    def pepper(self) -> Pepper:
        """What their hashes are keyed with."""
        if self.settings.key_file is not None:
            from llm_gateway.adapters.local.pepper import FilePepper

            return FilePepper(self.pepper_path)
        from llm_gateway.adapters.aws.secrets import SecretPepper

        return SecretPepper(lambda: self._aws.secrets, self.settings.required("key_pepper_arn"))

    @property
    def pepper_path(self) -> Path:
        """The file of that secret, where keys are in a file."""
        return Path(self.settings.key_pepper_file or f"{self.settings.key_file}.pepper")

    @property
    def _call_rates(self) -> CallRates:
        if self.settings.budget_table is None:
            from llm_gateway.adapters.memory.call_rates import InMemoryCallRates

            return InMemoryCallRates(utc_now)
        from llm_gateway.adapters.aws.call_rates import DynamoCallRates

        return DynamoCallRates(self._aws.dynamodb, self.settings.budget_table, utc_now)

    def queue(self, name: Literal["answer", "failure"]) -> SqsQueue:
        """Where results of queued calls go."""
        from llm_gateway.adapters.aws.result_queue import SqsQueue

        return SqsQueue(self._aws.sqs, self.settings.required(f"{name}_queue_url"))

    @cached_property
    def prompt_index(self) -> DynamoPromptIndex | FolderPromptIndex:
        """What is current; ListPrompts and GetPromptMetadata need no more."""
        if self.settings.prompt_folder:
            from llm_gateway.adapters.local.prompt_index import FolderPromptIndex

            return FolderPromptIndex(Path(self.settings.prompt_folder))
        from llm_gateway.adapters.aws.prompt_index import DynamoPromptIndex

        return DynamoPromptIndex(self._aws.dynamodb, self.settings.required("prompt_table"))

    @cached_property
    def indexer(self) -> PromptIndexer:
        """Keeps the index equal to the bucket."""
        from llm_gateway.prompts.catalogue.indexing import PromptIndexer

        return PromptIndexer(
            self.prompt_files,
            self.prompt_index,
            self.settings.max_prompt_bytes,
            utc_now,
            defect=lambda defect: self.telemetry.crashed(defect, None),
            workers=self.workers,
        )

    @property
    def workers(self) -> Workers:
        """What does heavy work."""
        return INLINE

    @cached_property
    def prompt_files(self) -> S3PromptFiles | FolderPromptFiles:
        """The files of the prompts, every version of them."""
        if self.settings.prompt_folder:
            from llm_gateway.adapters.local.prompt_files import FolderPromptFiles

            return FolderPromptFiles(Path(self.settings.prompt_folder))
        from llm_gateway.adapters.aws.prompt_files import S3PromptFiles

        return S3PromptFiles(self._aws.s3, self.settings.required("prompt_bucket"))

    @cached_property
    def checked_version(self) -> CheckedVersion:
        """The version that a deployment is about to give traffic."""
        from llm_gateway.adapters.aws.deployment import CheckedVersion

        def functions() -> LambdaClient:
            return self._aws.session.client("lambda", config=patient)

        def deployments() -> CodeDeployClient:
            return self._aws.session.client("codedeploy", config=self._aws.config)

        patient = self._aws.config.merge(_one_call())
        return CheckedVersion(functions, deployments, self.settings.required("checked_function"))

    async def caller(self) -> str:
        """Who we are to AWS, as an ARN."""
        from llm_gateway.adapters.aws.sdk import ask

        return str((await ask(self._aws.sts.get_caller_identity))["Arn"])

    @cached_property
    def rollups(self) -> RollupStore:
        """Sums over calls; GetUsageStats reads them, the stream adds to them."""
        from llm_gateway.adapters.aws.rollups import DynamoRollups

        return DynamoRollups(self._aws.dynamodb, self.settings.required("usage_table"))

    @cached_property
    def rollup_repair(self) -> DynamoRollupRepair:
        """The same sums, to be set right."""
        from llm_gateway.adapters.aws.rollup_repair import DynamoRollupRepair

        return DynamoRollupRepair(self._aws.dynamodb, self.settings.required("usage_table"))

    @cached_property
    def ledger_reader(self) -> DynamoLedgerReader:
        """The ledger by time."""
        from llm_gateway.adapters.aws.ledger_reader import DynamoLedgerReader

        return DynamoLedgerReader(self._aws.dynamodb, self.settings.required("usage_table"))

    @cached_property
    def usage_file_repair(self) -> SqliteUsageRepair:
        """Sums and ledger in a file, to be set right; it has no stream, so what is put there is counted."""
        from llm_gateway.adapters.local.sqlite_file import SqliteFile
        from llm_gateway.adapters.local.usage_repair import SqliteUsageRepair

        file = SqliteFile(Path(self.settings.required("usage_file")))
        return SqliteUsageRepair(file, counts_at_once=True)

    @cached_property
    def usage_bus(self) -> EventBridgeBus:
        """Who wants to hear of each call."""
        from llm_gateway.adapters.aws.usage_events import EventBridgeBus

        return EventBridgeBus(self._aws.events, self.settings.required("usage_event_bus"))

    @property
    def readiness(self) -> Mapping[str, Callable[[], Awaitable[object]]]:
        """What a call needs, each with something that fails if it is not there."""
        hour = utc_now()
        return {
            "prompt_index": lambda: self.prompt_index.generation(),
            "usage_store": lambda: self.rollups.read("hour", hour, hour),
        }

    @cached_property
    def _http(self) -> AsyncClient:
        """The client that providers and the ledger share."""
        from llm_gateway.providers.http_client import http_client

        return http_client()

    async def close(self) -> None:
        """Close the connections that are kept for the next call."""
        if "_http" in self.__dict__:
            await self._http.aclose()

    @cached_property
    def usage_table(self) -> UsageLedger:
        """The ledger in DynamoDB."""
        from llm_gateway.adapters.aws.ledger import DynamoUsageLedger

        settings = self.settings
        return DynamoUsageLedger(
            self._put_item, settings.required("usage_table"), settings.usage_retention_days
        )

    @property
    def _ledger(self) -> UsageLedger:
        """The same, with a queue for when it does not answer."""
        if self.settings.usage_queue_url is None:
            return self.usage_table
        from llm_gateway.adapters.aws.usage_queue import SqsUsageQueue
        from llm_gateway.usage.ledger import LedgerWithSpare

        spare = SqsUsageQueue(self._aws.sqs, self.settings.usage_queue_url)
        return LedgerWithSpare(self.usage_table, spare, self.telemetry)

    @property
    def _put_item(self) -> PutItem:
        credentials = self._aws.session.get_credentials()
        if self.settings.lean_aws and credentials is not None:
            from llm_gateway.adapters.aws.signed_put import SignedPut

            return SignedPut(self._http, self._aws.dynamodb, credentials)
        from llm_gateway.adapters.aws.sdk import ask

        put_item: Callable[..., object] = self._aws.dynamodb.put_item
        return partial(ask, put_item)

    # What differs where there is no AWS; see local.py.

    _ledger_timeout_s = 0.5

    def _metrics(self, function: str) -> Metrics:
        return EmbeddedMetrics(function, self.settings.environment)

    @property
    def _outcomes(self) -> OutcomeStore:
        from llm_gateway.adapters.aws.answers import DynamoOutcomes

        return DynamoOutcomes(self._aws.dynamodb, self.settings.required("outcome_table"))

    @property
    def _budget_store(self) -> BudgetStore:
        from llm_gateway.adapters.aws.budgets import DynamoBudgets

        return DynamoBudgets(self._aws.dynamodb, self.settings.required("budget_table"))

    @property
    def _budget_notices(self) -> BudgetNotices | None:
        from llm_gateway.adapters.aws.budget_events import EventBus

        settings = self.settings
        return EventBus(lambda: self._aws.events.put_events, settings.event_bus, settings.environment)

    @property
    def provider_keys(self) -> Read:
        """The keys of the providers, from where the settings say."""
        from llm_gateway.providers.keys import as_given, in_file, not_set

        settings = self.settings
        if settings.openai_api_key is not None:
            return as_given(settings.openai_api_key)
        if settings.openai_api_key_file is not None:
            return in_file(Path(settings.openai_api_key_file))
        if settings.openai_secret_arn is None:
            return not_set
        from llm_gateway.adapters.aws.secrets import in_secrets_manager

        return in_secrets_manager(lambda: self._aws.secrets, settings.openai_secret_arn)

    @cached_property
    def _aws(self) -> AwsClients:
        from llm_gateway.adapters.aws.clients import AwsClients

        return AwsClients()


def utc_now() -> datetime:
    """The clock."""
    return datetime.now(UTC)


def new_id() -> str:
    """A fresh id."""
    return uuid.uuid4().hex


def _one_call() -> Config:
    """For an invoke that takes as long as a call may, and is made once."""
    from botocore.config import Config

    return Config(read_timeout=130, retries={"mode": "standard", "total_max_attempts": 1})
