"""`llm-gateway serve` and `health`: the gateway as one process, without AWS."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from llm_gateway.bootstrap.env_file import environment_with
from llm_gateway.bootstrap.settings import ENV_PREFIX, Settings, process_environment
from llm_gateway.entrypoints.command_line.output import fail, say
from llm_gateway.errors import ConfigurationError

_WRONG = 2

EnvFile = Annotated[
    Path | None, typer.Option(help="Variables for development, .env; the environment's own win.")
]


def serve(
    prompt_folder: Annotated[Path | None, typer.Option(help="LLM_GATEWAY_PROMPT_FOLDER")] = None,
    usage_file: Annotated[Path | None, typer.Option(help="LLM_GATEWAY_USAGE_FILE, usage.db")] = None,
    host: Annotated[str | None, typer.Option(help="LLM_GATEWAY_HOST, 127.0.0.1")] = None,
    http_port: Annotated[int | None, typer.Option(help="LLM_GATEWAY_HTTP_PORT, 8080; 0: any.")] = None,
    grpc_port: Annotated[int | None, typer.Option(help="LLM_GATEWAY_GRPC_PORT, 50051; 0: any.")] = None,
    max_concurrent_calls: Annotated[
        int | None, typer.Option(help="LLM_GATEWAY_MAX_CONCURRENT_CALLS, 256")
    ] = None,
    shutdown_grace_s: Annotated[float | None, typer.Option(help="LLM_GATEWAY_SHUTDOWN_GRACE_S, 30")] = None,
    tls_certificate_file: Annotated[
        Path | None, typer.Option(help="LLM_GATEWAY_TLS_CERTIFICATE_FILE")
    ] = None,
    tls_key_file: Annotated[Path | None, typer.Option(help="LLM_GATEWAY_TLS_KEY_FILE")] = None,
    grpc_reflection: Annotated[bool | None, typer.Option(help="LLM_GATEWAY_GRPC_REFLECTION, on")] = None,
    env_file: EnvFile = None,
) -> None:
    """Serve HTTP and gRPC: prompts from a folder, usage in a SQLite file. Every option is a setting, too.

    Ends with 2 and a sentence for each problem if something is set up wrongly. SIGTERM lets calls under way
    end; a second signal does not.
    """
    options = {
        "prompt_folder": prompt_folder,
        "usage_file": usage_file,
        "host": host,
        "http_port": http_port,
        "grpc_port": grpc_port,
        "max_concurrent_calls": max_concurrent_calls,
        "shutdown_grace_s": shutdown_grace_s,
        "tls_certificate_file": tls_certificate_file,
        "tls_key_file": tls_key_file,
        "grpc_reflection": grpc_reflection,
    }
    try:
        settings = _settings(env_file, options)
        from llm_gateway.entrypoints.server.process import serve as serve_until_stopped

        serve_until_stopped(settings)
    except ConfigurationError as error:
        for problem in _problems(error):
            fail(problem)
        raise typer.Exit(_WRONG) from None


def health(env_file: EnvFile = None) -> None:
    """Ask the process on this machine whether it is ready; the exit code says so."""
    from llm_gateway.entrypoints.server.healthcheck import ready

    if not ready(_settings(env_file, {})):
        raise fail("not ready")
    say("ready")


def _settings(env_file: Path | None, options: Mapping[str, object]) -> Settings:
    given = {
        f"{ENV_PREFIX}{name.upper()}": str(value) for name, value in options.items() if value is not None
    }
    return Settings.from_env(environment_with(env_file, {**process_environment(), **given}))


def _problems(error: ConfigurationError) -> list[str]:
    problems = error.details.get("problems")
    return [str(problem) for problem in problems] if isinstance(problems, list) else [error.message]
