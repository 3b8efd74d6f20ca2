"""What must be right before anything is served: all that is wrong is told at once, a sentence for each."""

from __future__ import annotations

import asyncio
import socket
import ssl
import stat
from collections.abc import Awaitable, Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

from llm_gateway.adapters.local.local_file import is_file
from llm_gateway.bootstrap.local import LocalParts
from llm_gateway.bootstrap.settings import FOR_TRYING, Settings, process_environment
from llm_gateway.errors import ConfigurationError, GatewayError, StoreUnavailable
from llm_gateway.providers.http_environment import environment_faults
from llm_gateway.providers.key_text import KeyFault, key_in

T = TypeVar("T")
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
        *_ports(settings),
        *_provider_keys(parts),
        *_outbound(parts),
        *_told_by(lambda: parts.model_catalogue),
        *_told_by(lambda: parts.budgets),
        *_usage_file(parts),
    ]
    if not problems:
        problems += [*_told_by(lambda: _check_model(parts)), *_default_key(parts)]
    if problems:
        raise ConfigurationError(" ".join(problems), details={"problems": [*problems]})


def files_open_to_others(parts: LocalParts) -> Iterator[tuple[Path, str]]:
    """The files of this process that other users of the machine may open, each with its mode."""
    usage, keys = parts.usage_path, parts.settings.key_file
    owned = [usage, usage.with_name(f"{usage.name}-wal"), usage.with_name(f"{usage.name}-shm")]
    if keys is not None:
        owned += [Path(keys), parts.pepper_path]
    for file in owned:
        if is_file(file) and (mode := stat.S_IMODE(file.stat().st_mode)) & _OTHERS:
            yield file, f"{mode:04o}"


def _usage_file(parts: LocalParts) -> Iterator[str]:
    try:
        _ = parts.usage_file
    except StoreUnavailable as error:
        cause = error.__cause__
        reason = (
            error.message.rstrip(".") if cause is None else getattr(cause, "strerror", None) or str(cause)
        )
        yield f"LLM_GATEWAY_USAGE_FILE: '{parts.usage_path}' cannot be used: {reason}."


def _prompts(settings: Settings) -> Iterator[str]:
    folder = settings.prompt_folder
    if folder is None:
        yield "Set LLM_GATEWAY_PROMPT_FOLDER (or --prompt-folder) to the folder of the prompts."
    else:
        try:
            next(Path(folder).iterdir(), None)
        except (FileNotFoundError, NotADirectoryError):
            yield f"LLM_GATEWAY_PROMPT_FOLDER: '{folder}' is no folder."
        except OSError as error:
            yield f"LLM_GATEWAY_PROMPT_FOLDER: '{folder}' cannot be read: {error.strerror}."


def _access(parts: LocalParts) -> Iterator[str]:
    settings = parts.settings
    if settings.access == "open":
        if settings.environment not in FOR_TRYING:
            yield (
                "LLM_GATEWAY_ACCESS=open is only for LLM_GATEWAY_ENVIRONMENT=local or dev; set "
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
        yield from _told_by(lambda: asyncio.run(_awaited(parts.key_store.all())), "LLM_GATEWAY_KEY_FILE: ")


def _tls(settings: Settings) -> Iterator[str]:
    certificate, key = settings.tls_certificate_file, settings.tls_key_file
    if certificate is None and key is None:
        return
    if certificate is None or key is None:
        yield "Set both LLM_GATEWAY_TLS_CERTIFICATE_FILE and LLM_GATEWAY_TLS_KEY_FILE, or neither."
        return
    missing = [file for file in (certificate, key) if not is_file(file)]
    if missing:
        yield (
            "LLM_GATEWAY_TLS_CERTIFICATE_FILE and LLM_GATEWAY_TLS_KEY_FILE: there is no "
            f"'{missing[0]}' that this process may read."
        )
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


def _ports(settings: Settings) -> Iterator[str]:
    """Whether both ports are free, found out by taking them for a moment."""
    ports = {"HTTP": settings.http_port, "gRPC": settings.grpc_port}
    if settings.http_port == settings.grpc_port != 0:
        yield "LLM_GATEWAY_HTTP_PORT and LLM_GATEWAY_GRPC_PORT name the same port; gRPC needs one of its own."
        return
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    for door, port in ports.items():
        with socket.socket(family, socket.SOCK_STREAM) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listener.bind((settings.host, port))
                listener.listen(1)
            except (OSError, UnicodeError) as error:
                reason = getattr(error, "strerror", None) or "it is no address"
                yield f"{door} cannot listen on {settings.host}:{port} ({reason})."


def _provider_keys(parts: LocalParts) -> Iterator[str]:
    """What is wrong with the keys that are there; whether a vendor takes them is found out later."""
    setting = _key_setting(parts.settings)
    if parts.settings.test_mode or setting is None:
        return
    try:
        text = asyncio.run(_awaited(parts.provider_keys()))
    except KeyFault as fault:
        yield f"{setting} {fault}."
        return
    except ConfigurationError as error:
        yield f"{setting} cannot be read: {error.details.get('reason', 'see the log')}."
        return
    yield from dict.fromkeys(_key_faults(text, setting, _providers_with_keys(parts)))


def _key_faults(text: str, setting: str, providers: Iterable[str]) -> Iterator[str]:
    as_json = text.lstrip("\ufeff \t\r\n").startswith("{")
    for provider in providers:
        try:
            key_in(text, provider)
        except KeyFault as fault:
            of_whom = f", the key of '{provider}':" if as_json else ""
            yield f"{setting}{of_whom} {fault}."


def _providers_with_keys(parts: LocalParts) -> list[str]:
    """OpenAI, and every other provider that asks for a key, as far as the models can be read."""
    try:
        endpoints = parts.model_catalogue.endpoints
    except ConfigurationError:
        endpoints = {}
    named = {"openai": True, **{name: endpoint.auth != "none" for name, endpoint in endpoints.items()}}
    return [name for name, keyed in named.items() if keyed]


def _default_key(parts: LocalParts) -> Iterator[str]:
    """The default model's provider has a key, or needs none."""
    provider = parts.settings.default_model.partition("/")[0]
    if parts.settings.test_mode or provider not in _providers_with_keys(parts):
        return
    if _key_setting(parts.settings) is None:
        yield (
            "Set LLM_GATEWAY_OPENAI_API_KEY or LLM_GATEWAY_OPENAI_API_KEY_FILE, or for answers that cost "
            "nothing LLM_GATEWAY_TEST_MODE=true."
        )
    elif not key_in(asyncio.run(_awaited(parts.provider_keys())), provider):
        yield (
            f"{_key_setting(parts.settings)} holds no key for '{provider}', the provider of "
            "LLM_GATEWAY_DEFAULT_MODEL."
        )


def _key_setting(settings: Settings) -> str | None:
    """The setting that the keys are read from."""
    names = ("openai_api_key", "openai_api_key_file", "openai_secret_arn")
    return next((f"LLM_GATEWAY_{name.upper()}" for name in names if getattr(settings, name)), None)


def _outbound(parts: LocalParts) -> Iterator[str]:
    """What the environment says of proxies and certificates; in test mode nothing is sent."""
    if parts.settings.test_mode:
        return
    faults = list(environment_faults(process_environment()))
    yield from faults
    models_wrong = any(_told_by(lambda: parts.model_catalogue))  # which has a sentence of its own
    if not faults and not models_wrong:
        yield from _told_by(parts.check_outbound)


async def _awaited(reading: Awaitable[T]) -> T:
    return await reading


def _told_by(build: Callable[[], object], before: str = "") -> Iterator[str]:
    """What building a part says against it."""
    try:
        build()
    except GatewayError as error:
        yield f"{before}{error.message}"
