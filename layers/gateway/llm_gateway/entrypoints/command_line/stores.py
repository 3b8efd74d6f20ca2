"""Where the prompts, the usage and the keys are that a command works on: a deployed stack, or files."""

from __future__ import annotations

import getpass
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Protocol

from llm_gateway.access.keys import Keys, KeyStore
from llm_gateway.adapters.local.local_file import is_file
from llm_gateway.bootstrap.services import Parts
from llm_gateway.bootstrap.settings import Settings
from llm_gateway.errors import ConfigurationError
from llm_gateway.prompts.catalogue.assembly import PromptUploads
from llm_gateway.prompts.catalogue.catalogue import PromptBodies
from llm_gateway.prompts.catalogue.indexing import PromptIndexer, WritablePromptIndex
from llm_gateway.prompts.catalogue.labels import LabelStore
from llm_gateway.usage.ledger import UsageLedger
from llm_gateway.usage.rebuild import LedgerReader, ReplaceableRollups


class PromptFiles(PromptUploads, PromptBodies, Protocol):
    """The files of the prompts, to read and to write."""

    async def upload(self, path: str, data: bytes) -> str:
        """Make `data` the newest version of the file at `path`; returns the version's id."""
        ...


class LabelledIndex(WritablePromptIndex, LabelStore, Protocol):
    """The index, and the labels in it."""


@dataclass(frozen=True, slots=True)
class PromptStores:
    """What commands work on.

    Attributes:
        index: What is current.
        files: The files.
        indexer: Keeps the first equal to the second; None where the store's own events do that.
        user: Whose name a move of a label is recorded under.
    """

    index: LabelledIndex
    files: PromptFiles
    indexer: PromptIndexer | None
    user: Callable[[], Awaitable[str]]


@dataclass(frozen=True, slots=True)
class Place:
    """What the options say.

    Attributes:
        folder: A folder of prompts, or None.
        stack: Name of a deployed stack, or None.
        usage_file: A file of usage, or None.
        key_file: A file of gateway keys, or None.
    """

    folder: str | None = None
    stack: str | None = None
    usage_file: str | None = None
    key_file: str | None = None


@dataclass(frozen=True, slots=True)
class UsageStores:
    """What commands about usage work on.

    Attributes:
        rollups: The sums.
        reader: The ledger, to read.
        ledger: The ledger, to write.
        retention: Life of a call on the ledger.
        close: Ends what was opened.
    """

    rollups: ReplaceableRollups
    reader: LedgerReader
    ledger: UsageLedger
    retention: timedelta
    close: Callable[[], None] = lambda: None


@dataclass(frozen=True, slots=True)
class KeyStores:
    """What commands about keys work on.

    Attributes:
        keys: Makes and ends them.
        store: Where they are.
        user: Whose name a new one is recorded under.
    """

    keys: Keys
    store: KeyStore
    user: Callable[[], Awaitable[str]]


@dataclass(frozen=True, slots=True)
class Places:
    """What a command may open, once it needs it."""

    prompts: Callable[[], PromptStores]
    usage: Callable[[], UsageStores]
    keys: Callable[[], KeyStores]


def open_usage(place: Place) -> UsageStores:
    """The usage in a file, of a stack by its name, or of the file or table that the environment names.

    Raises:
        ConfigurationError: There is no such file or stack, or nothing is named.
    """
    settings = Settings.from_env()
    if place.usage_file:
        settings = replace(settings, usage_file=place.usage_file)
    elif place.stack:
        settings = replace(_of_stack(settings, place.stack), usage_file=None)
    elif not (settings.usage_file or settings.usage_table):
        raise ConfigurationError(
            "Say whose usage: --stack NAME, --usage-file PATH, or LLM_GATEWAY_USAGE_TABLE or "
            "LLM_GATEWAY_USAGE_FILE in the environment. A folder has none."
        )
    parts = Parts(replace(settings, lean_aws=False), "command_line")
    retention = timedelta(days=settings.usage_retention_days)
    if settings.usage_file:
        if not is_file(settings.usage_file):  # opening it would make an empty one
            raise ConfigurationError(f"There is no usage file '{settings.usage_file}'.")
        file = parts.usage_file_repair
        return UsageStores(file, file, file, retention, file.close)
    return UsageStores(parts.rollup_repair, parts.ledger_reader, parts.usage_table, retention)


def open_keys(place: Place) -> KeyStores:
    """The keys of a stack by its name, of a file, or those that the environment names.

    Raises:
        ConfigurationError: There is no such stack, or nothing is named.
    """
    settings = Settings.from_env()
    if place.stack:
        settings = _of_stack(settings, place.stack)
    elif place.key_file:
        settings = replace(settings, key_file=place.key_file)
    elif not (settings.key_file or settings.key_table):
        raise ConfigurationError(
            "Say whose keys: --stack NAME, --key-file FILE, or LLM_GATEWAY_KEY_TABLE and "
            "LLM_GATEWAY_KEY_PEPPER_ARN in the environment."
        )
    parts = Parts(settings, "command_line")
    return KeyStores(parts.keys, parts.key_store, _os_user if settings.key_file else parts.caller)


def open_stores(place: Place) -> PromptStores:
    """The stores of a folder, of a stack by its name, or those that the environment names.

    Raises:
        ConfigurationError: There is no such stack, or nothing is named.
    """
    settings = Settings.from_env()
    if place.stack:
        settings = _of_stack(settings, place.stack)
    elif place.folder:
        settings = replace(settings, prompt_folder=place.folder)
    elif not (settings.prompt_folder or settings.prompt_bucket):
        raise ConfigurationError(
            "Say where the prompts are: --folder DIR, --stack NAME, or LLM_GATEWAY_PROMPT_BUCKET and "
            "LLM_GATEWAY_PROMPT_TABLE in the environment."
        )
    parts = Parts(settings, "command_line")
    if settings.prompt_folder:
        return PromptStores(parts.prompt_index, parts.prompt_files, parts.indexer, _os_user)
    return PromptStores(parts.prompt_index, parts.prompt_files, None, parts.caller)


def _of_stack(settings: Settings, stack: str) -> Settings:
    from boto3 import Session
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        answer = Session().client("cloudformation").describe_stacks(StackName=stack)
    except (ClientError, BotoCoreError) as error:
        raise ConfigurationError(f"The stack '{stack}' cannot be read: {type(error).__name__}.") from error
    found = answer["Stacks"][0]
    outputs = {o["OutputKey"]: o["OutputValue"] for o in found.get("Outputs", [])}
    parameters = {p["ParameterKey"]: p["ParameterValue"] for p in found.get("Parameters", [])}
    if not {"PromptBucketName", "PromptTableName", "UsageTableName"} <= outputs.keys():
        raise ConfigurationError(f"The stack '{stack}' is no LLM Gateway: it has no output UsageTableName.")
    return replace(
        settings,
        prompt_bucket=outputs["PromptBucketName"],
        prompt_table=outputs["PromptTableName"],
        prompt_folder=None,
        usage_table=outputs["UsageTableName"],
        key_table=outputs.get("KeyTableName"),
        key_pepper_arn=outputs.get("KeyPepperArn"),
        key_file=None,
        usage_retention_days=int(parameters.get("UsageRetentionDays", settings.usage_retention_days)),
    )


async def _os_user() -> str:
    return getpass.getuser()
