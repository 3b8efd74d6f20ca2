"""`llm-gateway`: lint, render, push, list, show, history, diff, label and rollback prompts."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Annotated

import typer

from llm_gateway.entrypoints.command_line import files, versions
from llm_gateway.entrypoints.command_line.output import fail
from llm_gateway.entrypoints.command_line.places import Place, PromptStores, open_stores
from llm_gateway.errors import GatewayError

_HELP = """Prompts from the author's side: check them, upload them, see and move their versions.

Where they are: `--folder prompts`, or `--stack llm-gateway-dev` on AWS, or the settings
LLM_GATEWAY_PROMPT_BUCKET and LLM_GATEWAY_PROMPT_TABLE (with AWS_ENDPOINT_URL for a local AWS).

Examples:

  llm-gateway lint prompts/

  llm-gateway --stack llm-gateway-dev push prompts/support/reply.prompt

  llm-gateway --folder prompts rollback support/reply.prompt
"""


def create_app(opened: Callable[[Place], PromptStores] = open_stores) -> typer.Typer:
    """The commands.

    Args:
        opened: Opens the stores that a place stands for.
    """
    app = typer.Typer(
        help=_HELP,
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode="markdown",
        pretty_exceptions_enable=False,
    )

    @app.callback()
    def place(
        context: typer.Context,
        folder: Annotated[str | None, typer.Option(help="A folder of prompts; no AWS.")] = None,
        stack: Annotated[str | None, typer.Option(help="Name of a deployed stack.")] = None,
    ) -> None:
        context.obj = lambda: opened(Place(folder, stack))

    for command in (
        files.lint, files.render, files.push,
        versions.list_prompts, versions.show, versions.history,
        versions.diff, versions.label, versions.rollback,
    ):  # fmt: skip
        app.command(command.__name__.partition("_")[0])(command)
    return app


def main() -> None:
    """The entry point of the installed command."""
    try:
        create_app()()
    except GatewayError as error:
        sys.exit(fail(error.message).exit_code)
