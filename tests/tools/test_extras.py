"""`pip install`, with each extra, into a fresh environment: commands work, or say which extra they need."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from llm_gateway.entrypoints.command_line.launch import EXTRAS
from tests.tools.test_targets import ROOT

UV = ROOT / ".venv-uv" / "bin" / "uv"
PINS = ROOT / "requirements" / "dev.txt"
COMMANDS = {"serve": ["serve"], "call": ["call", "translate.txt", "--address", "127.0.0.1:9"]}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"  # building leaves folders beside the code
    source.mkdir()
    shutil.copy(ROOT / "pyproject.toml", source)
    for name in ("layers", "requirements"):
        shutil.copytree(
            ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info")
        )
    how = ("--wheel", "--no-build-isolation", "--python", sys.executable, "-o", str(folder))
    uv("build", "--quiet", *how, str(source))
    [built] = folder.glob("*.whl")
    return built


def uv(*arguments: str) -> None:
    done = subprocess.run(
        [str(UV), *arguments], capture_output=True, text=True, env={**os.environ, "UV_NO_CONFIG": "1"}
    )
    assert done.returncode == 0, done.stderr


def command(wheel: Path, extra: str, folder: Path) -> Path:
    """The command `llm-gateway` of a fresh environment with this extra, in the pinned versions."""
    uv("venv", "--quiet", "--python", sys.executable, str(folder))
    python = str(folder / "bin" / "python")
    uv(
        "pip",
        "install",
        "--quiet",
        "--python",
        python,
        "--constraints",
        str(constraints(folder)),
        f"{wheel}{extra}",
    )
    return folder / "bin" / "llm-gateway"


def constraints(folder: Path) -> Path:
    """The pins without their hashes, which a local wheel has none of."""
    lines = [line.partition(" \\")[0] for line in PINS.read_text().splitlines() if "==" in line]
    path = folder / "constraints.txt"
    path.write_text("\n".join(lines))
    return path


def run(program: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], "LLM_GATEWAY_ACCESS": "open"}
    return subprocess.run(
        [str(program), *arguments],
        cwd=program.parent,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_without_an_extra_the_command_says_which_one_has_it(wheel: Path, tmp_path: Path) -> None:
    done = run(command(wheel, "", tmp_path / "plain"), "--help")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "This command needs the package typer, which the extra `cli` installs: "
        "run `pip install '.[cli]'` in a clone of the gateway.\n"
    )


def test_the_command_line_lints_and_says_what_serves_and_calls(wheel: Path, tmp_path: Path) -> None:
    program = command(wheel, "[cli]", tmp_path / "cli")
    assert run(program, "lint", str(ROOT / "prompts")).returncode == 0
    for arguments in COMMANDS.values():
        done = run(program, *arguments)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.count("\n") == 1
        assert "which the extra `server` installs: run `pip install '.[server]'`" in done.stderr


def test_the_extra_for_servers_has_everything_that_serves_and_calls(wheel: Path, tmp_path: Path) -> None:
    program = command(wheel, "[server]", tmp_path / "server")
    served = run(program, *COMMANDS["serve"])
    assert "LLM_GATEWAY" in served.stderr + served.stdout, "it starts, and asks for what is not set"
    assert "which the extra" not in served.stderr
    called = run(program, *COMMANDS["call"])
    assert called.returncode == 1
    assert called.stderr.startswith("UNAVAILABLE")


def test_every_package_of_the_extras_is_known_to_the_command() -> None:
    """Each name that is imported from an extra's packages leads to the extra that is told of."""
    imported = packages_distributions()
    for extra in ("cli", "server"):
        lines = (ROOT / "requirements" / f"{extra}.in").read_text().splitlines()
        for package in [line for line in lines if line and not line.startswith("#")]:
            modules = [module for module, names in imported.items() if package in map(normalised, names)]
            assert modules, f"{package} is not installed here"
            assert {EXTRAS.get(module) for module in modules} == {extra}, (package, modules)


def normalised(distribution: str) -> str:
    return distribution.lower().replace("_", "-")
