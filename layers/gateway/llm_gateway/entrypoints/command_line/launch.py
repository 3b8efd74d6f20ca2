"""The installed command `llm-gateway`, which says what to install where a package is missing."""

from __future__ import annotations

import sys

EXTRAS = {
    "typer": "cli",
    "rich": "cli",
    "dotenv": "server",
    "google": "server",
    "grpc": "server",
    "grpc_health": "server",
    "grpc_reflection": "server",
    "httptools": "server",
    "prometheus_client": "server",
    "uvicorn": "server",
}
"""The extra of pyproject.toml that installs a package, by the name under which the package is imported."""

_WRONG = 2


def main() -> None:
    """Run the command line; exit with 2 and a sentence if a package of an extra is missing."""
    try:
        from llm_gateway.entrypoints.command_line.app import main as run

        run()
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in EXTRAS:
            raise
        extra = EXTRAS[package]
        sys.stderr.write(
            f"This command needs the package {package}, which the extra `{extra}` installs: "
            f"run `pip install '.[{extra}]'` in a clone of the gateway.\n"
        )
        sys.exit(_WRONG)
