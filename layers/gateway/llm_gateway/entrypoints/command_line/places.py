"""Where the prompts are that a command works on: a deployed stack, or a folder."""

from __future__ import annotations

import getpass
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Protocol

from llm_gateway.bootstrap import Parts
from llm_gateway.errors import ConfigurationError
from llm_gateway.prompts.assembly import PromptUploads
from llm_gateway.prompts.catalogue import PromptBodies
from llm_gateway.prompts.indexing import PromptIndexer, WritablePromptIndex
from llm_gateway.prompts.labels import LabelStore
from llm_gateway.settings import Settings


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
    """

    folder: str | None = None
    stack: str | None = None


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
    outputs = {o["OutputKey"]: o["OutputValue"] for o in answer["Stacks"][0].get("Outputs", [])}
    if not {"PromptBucketName", "PromptTableName"} <= outputs.keys():
        raise ConfigurationError(f"The stack '{stack}' is no LLM Gateway: it has no output PromptTableName.")
    bucket, table = outputs["PromptBucketName"], outputs["PromptTableName"]
    return replace(settings, prompt_bucket=bucket, prompt_table=table, prompt_folder=None)


async def _os_user() -> str:
    return getpass.getuser()
