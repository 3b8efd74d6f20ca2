"""`llm-gateway`: lint, render, push, list, show, history, diff, label, rollback; usage; keys; serve."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Annotated

import typer

from llm_gateway.entrypoints.command_line import call, keys, prompts, serve, usage, usage_ledger, versions
from llm_gateway.entrypoints.command_line.output import fail
from llm_gateway.entrypoints.command_line.stores import (
    KeyStores,
    Place,
    Places,
    PromptStores,
    UsageStores,
    open_keys,
    open_stores,
    open_usage,
)
from llm_gateway.errors import GatewayError
from llm_gateway.validation import has_half_character

_HELP = """Prompts from the author's side: check them, upload them, see and move their versions.

Where they are: `--folder prompts`, or `--stack llm-gateway-dev` on AWS, or the settings
LLM_GATEWAY_PROMPT_BUCKET and LLM_GATEWAY_PROMPT_TABLE (with AWS_ENDPOINT_URL for a local AWS).

Examples:

  llm-gateway lint prompts/

  llm-gateway --stack llm-gateway-dev push prompts/support/reply.prompt

  llm-gateway --folder prompts rollback support/reply.prompt

  llm-gateway --stack llm-gateway-dev usage --days 30
"""
_USAGE_HELP = """What calls cost: a table of sums; the ledger behind it, to export, to check and to mend.

Whose: `--stack llm-gateway-dev` or `--usage-file usage.db` before `usage`, or the setting
LLM_GATEWAY_USAGE_TABLE or LLM_GATEWAY_USAGE_FILE.
Without a further word: `usage show`.

Examples:

  llm-gateway --stack llm-gateway-dev usage

  llm-gateway --stack llm-gateway-dev usage show --by prompt --days 30

  llm-gateway --stack llm-gateway-prod usage export --start 2026-11-01 --end 2026-12-01 --output november.csv
"""


_KEYS_HELP = """Gateway keys: who may call, and what.

Whose: `--stack llm-gateway-dev` before `keys`, or `--key-file keys.json`, or the settings
LLM_GATEWAY_KEY_TABLE and LLM_GATEWAY_KEY_PEPPER_ARN.

Examples:

  llm-gateway --stack llm-gateway-dev keys create shop --prompt support/ --expires-in 90d

  llm-gateway --stack llm-gateway-dev keys rotate 0f1e2d3c4b5a --overlap 7d

  llm-gateway --key-file keys.json keys list
"""


def create_app(
    opened: Callable[[Place], PromptStores] = open_stores,
    opened_usage: Callable[[Place], UsageStores] = open_usage,
    opened_keys: Callable[[Place], KeyStores] = open_keys,
) -> typer.Typer:
    """The commands.

    Args:
        opened: Opens the prompts that a place stands for.
        opened_usage: Opens the usage that it stands for.
        opened_keys: Opens the keys that it stands for.
    """
    app = _typer(_HELP, no_args_is_help=True)

    @app.callback()
    def place(
        context: typer.Context,
        folder: Annotated[str | None, typer.Option(help="A folder of prompts; no AWS.")] = None,
        stack: Annotated[str | None, typer.Option(help="Name of a deployed stack.")] = None,
        usage_file: Annotated[str | None, typer.Option(help="A file of usage; no AWS.")] = None,
        key_file: Annotated[str | None, typer.Option(help="A file of gateway keys; no AWS.")] = None,
    ) -> None:
        there = Place(folder, stack, usage_file, key_file)

        def usage_there() -> UsageStores:
            stores = opened_usage(there)
            context.call_on_close(stores.close)
            return stores

        context.obj = Places(lambda: opened(there), usage_there, lambda: opened_keys(there))

    for command in (
        prompts.lint, prompts.render, prompts.push,
        versions.list_prompts, versions.show, versions.history,
        versions.diff, versions.label, versions.rollback,
    ):  # fmt: skip
        app.command(command.__name__.partition("_")[0])(command)
    app.command()(serve.serve)
    app.command()(serve.health)
    app.command()(call.call)
    app.add_typer(_usage_commands(), name="usage")
    app.add_typer(_key_commands(), name="keys")
    return app


def _key_commands() -> typer.Typer:
    commands = _typer(_KEYS_HELP, no_args_is_help=True)
    for command in (keys.create, keys.list_keys, keys.rotate, keys.revoke):
        commands.command(command.__name__.partition("_")[0])(command)
    return commands


def _usage_commands() -> typer.Typer:
    commands = _typer(_USAGE_HELP, invoke_without_command=True)

    @commands.callback()
    def default(context: typer.Context) -> None:
        if context.invoked_subcommand is None:
            usage.show(context)

    for command in (usage.show, usage_ledger.export, usage_ledger.rebuild, usage_ledger.recover):
        commands.command(command.__name__)(command)
    return commands


def _typer(text: str, **choices: bool) -> typer.Typer:
    return typer.Typer(
        help=text,
        add_completion=False,
        rich_markup_mode="markdown",
        pretty_exceptions_enable=False,
        **choices,  # type: ignore[arg-type]
    )


def main() -> None:
    """The entry point of the installed command."""
    if any(has_half_character(argument) for argument in sys.argv[1:]):  # bytes that are no UTF-8
        sys.exit(fail("An argument is not UTF-8 text; write it as UTF-8.").exit_code)
    try:
        create_app()()
    except GatewayError as error:
        sys.exit(fail(error.message).exit_code)
