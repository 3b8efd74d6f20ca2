"""What must be right before anything is served: all that is wrong is told at once, a sentence for each."""

from __future__ import annotations

import asyncio
import ssl
import stat
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import TypeVar

from llm_gateway.errors import ConfigurationError, GatewayError
from llm_gateway.local_parts import LocalParts
from llm_gateway.settings import Settings
from llm_gateway.stores.provider_keys import key_in

T = TypeVar("T")
_PRODUCTION = ("prod", "production")
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def check(parts: LocalParts) -> None:
    """Look at everything that a setting names.

    Raises:
        ConfigurationError: With `problems` in its details, a sentence for each.
    """
    settings = parts.settings
    problems = [
        *_prompts(settings),
        *_access(parts),
        *_tls(settings),
        *_told_by(lambda: parts.model_catalogue),
        *_told_by(lambda: parts.budgets),
        *_told_by(lambda: parts.usage_file, f"LLM_GATEWAY_USAGE_FILE: '{parts.usage_path}' cannot be used. "),
    ]
    if not problems:
        problems += [*_told_by(lambda: _check_model(parts)), *_provider_key(parts)]
    if problems:
        raise ConfigurationError(" ".join(problems), details={"problems": [*problems]})


def files_open_to_others(parts: LocalParts) -> Iterator[tuple[Path, str]]:
    """The files of this process that other users of the machine may open, each with its mode."""
    usage, keys = parts.usage_path, parts.settings.key_file
    owned = [usage, usage.with_name(f"{usage.name}-wal"), usage.with_name(f"{usage.name}-shm")]
    if keys is not None:
        owned += [Path(keys), parts.pepper_path]
    for file in owned:
        if file.is_file() and (mode := stat.S_IMODE(file.stat().st_mode)) & _OTHERS:
            yield file, f"{mode:04o}"


def _prompts(settings: Settings) -> Iterator[str]:
    folder = settings.prompt_folder
    if folder is None:
        yield "Set LLM_GATEWAY_PROMPT_FOLDER (or --prompt-folder) to the folder of the prompts."
    elif not Path(folder).is_dir():
        yield f"LLM_GATEWAY_PROMPT_FOLDER: '{folder}' is no folder."


def _access(parts: LocalParts) -> Iterator[str]:
    settings = parts.settings
    if settings.access == "open":
        if settings.environment.lower() in _PRODUCTION:
            yield (
                "LLM_GATEWAY_ACCESS=open is not for production (LLM_GATEWAY_ENVIRONMENT); set "
                "LLM_GATEWAY_ACCESS=keys and LLM_GATEWAY_KEY_FILE."
            )
        return
    if settings.access == "iam":
        yield "LLM_GATEWAY_ACCESS=iam is for AWS; here it is 'keys' or 'open'."
    elif settings.key_file is None:
        yield (
            "Set LLM_GATEWAY_KEY_FILE to the file of the gateway keys, or LLM_GATEWAY_ACCESS=open to let "
            "everybody call who reaches the ports."
        )
    else:
        yield from _told_by(lambda: asyncio.run(_awaited(parts.pepper())), "LLM_GATEWAY_KEY_FILE: ")


def _tls(settings: Settings) -> Iterator[str]:
    certificate, key = settings.tls_certificate_file, settings.tls_key_file
    if certificate is None and key is None:
        return
    if certificate is None or key is None:
        yield "Set both LLM_GATEWAY_TLS_CERTIFICATE_FILE and LLM_GATEWAY_TLS_KEY_FILE, or neither."
        return
    missing = [file for file in (certificate, key) if not Path(file).is_file()]
    if missing:
        yield f"LLM_GATEWAY_TLS_CERTIFICATE_FILE and LLM_GATEWAY_TLS_KEY_FILE: there is no '{missing[0]}'."
        return
    try:
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(certificate, key, password="")
    except (OSError, ValueError):
        yield (
            "LLM_GATEWAY_TLS_CERTIFICATE_FILE and LLM_GATEWAY_TLS_KEY_FILE are no certificate with its "
            "private key, in PEM and without a password."
        )


def _check_model(parts: LocalParts) -> None:
    provider, _, model = parts.settings.default_model.partition("/")
    try:
        parts.model_catalogue.find(provider, model)
    except GatewayError as error:
        raise ConfigurationError(f"LLM_GATEWAY_DEFAULT_MODEL: {error.message}") from error


def _provider_key(parts: LocalParts) -> Iterator[str]:
    """The default model's provider has a key, or needs none; whether it is taken is found out later."""
    settings = parts.settings
    provider = settings.default_model.partition("/")[0]
    endpoint = parts.model_catalogue.endpoints.get(provider)
    if settings.test_mode or (endpoint is not None and endpoint.auth == "none"):
        return
    if not any((settings.openai_api_key, settings.openai_api_key_file, settings.openai_secret_arn)):
        yield (
            "Set LLM_GATEWAY_OPENAI_API_KEY or LLM_GATEWAY_OPENAI_API_KEY_FILE, or for answers that cost "
            "nothing LLM_GATEWAY_TEST_MODE=true."
        )
        return
    try:
        if not key_in(asyncio.run(_awaited(parts.provider_keys())), provider):
            yield f"The provider keys have none for '{provider}', the provider of LLM_GATEWAY_DEFAULT_MODEL."
    except ConfigurationError:
        yield "LLM_GATEWAY_OPENAI_API_KEY_FILE or LLM_GATEWAY_OPENAI_SECRET_ARN cannot be read."


async def _awaited(reading: Awaitable[T]) -> T:
    return await reading


def _told_by(build: Callable[[], object], before: str = "") -> Iterator[str]:
    """What building a part says against it."""
    try:
        build()
    except GatewayError as error:
        yield f"{before}{error.message}"
