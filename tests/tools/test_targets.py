"""Runtime and Architecture decide what is built; whatever else says something is refused in a sentence."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from cfn_yaml import load_template
from deployment import interpreters, parameters, targets
from deployment.refusals import RefusedError
from deployment.targets import PLATFORMS, Target

ROOT = Path(__file__).parent.parent.parent
SAM_PYTHON = ROOT / ".venv-sam" / "bin" / "python"
TEMPLATE = load_template()
DECLARED: dict[str, dict[str, Any]] = TEMPLATE["Parameters"]


def tool(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """`python -m deployment` as make starts it."""
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": f"{ROOT}/tools", **variables}
    command = [str(SAM_PYTHON), "-m", "deployment", *arguments]
    return subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True)


# ------------------------------------------------------------------------ the pair
def test_the_default_is_the_templates_and_every_supported_pair_has_a_platform() -> None:
    assert targets.chosen(TEMPLATE, "dev", {}, {}) == Target("python3.13", "arm64")
    assert {target.architecture for target in targets.supported(TEMPLATE)} == PLATFORMS.keys()
    assert targets.default(TEMPLATE) in targets.supported(TEMPLATE)


def test_lambdas_c_library_is_new_enough_for_the_wheels_of_every_runtime() -> None:
    assert DECLARED["Runtime"]["AllowedValues"] == ["python3.12", "python3.13"], "3.11 runs on glibc 2.26"
    assert {platform.partition("-")[2] for platform in PLATFORMS.values()} == {"manylinux_2_28"}


def test_the_section_or_make_chooses_and_both_may_say_the_same() -> None:
    x86 = Target("python3.13", "x86_64")
    assert targets.chosen(TEMPLATE, "dev", {"Architecture": "x86_64"}, {}) == x86
    assert targets.chosen(TEMPLATE, "dev", {}, {"Architecture": "x86_64"}) == x86
    assert targets.chosen(TEMPLATE, "dev", {"Architecture": "x86_64"}, {"Architecture": "x86_64"}) == x86
    assert targets.chosen(TEMPLATE, "dev", {"Architecture": "x86_64"}, {"Architecture": ""}) == x86
    assert x86.parameters == {"Runtime": "python3.13", "Architecture": "x86_64"}
    assert (x86.python, x86.platform) == ("3.13", "x86_64-manylinux_2_28")


@pytest.mark.parametrize(
    ("section", "asked", "said"),
    [
        (
            {"Architecture": "arm64"},
            {"Architecture": "x86_64"},
            r"ARCHITECTURE=x86_64.*dev.*Architecture=arm64",
        ),
        ({"Runtime": "python3.13"}, {"Runtime": "python3.12"}, r"RUNTIME=python3.12.*Runtime=python3.13"),
        ({}, {"Runtime": "python3.11"}, r"python3.11 on arm64 is not supported; choose one of: python3.12"),
        ({"Architecture": "riscv"}, {}, "python3.13 on riscv is not supported"),
    ],
)
def test_a_disagreement_is_a_sentence(section: dict[str, str], asked: dict[str, str], said: str) -> None:
    with pytest.raises(RefusedError, match=said):
        targets.chosen(TEMPLATE, "dev", section, asked)


@pytest.mark.parametrize("name", ["TARGET_PYTHON", "TARGET_PLATFORM"])
def test_the_derived_variables_cannot_be_given(name: str) -> None:
    done = tool("build", **{name: "3.12"})
    assert done.returncode == 1
    assert done.stderr.startswith(f"{name} is derived and cannot be given: set RUNTIME=")


def test_the_layers_are_not_built_without_a_target(tmp_path: Path) -> None:
    done = subprocess.run(
        [str(shutil.which("make")), "-C", str(ROOT / "layers" / "dependencies"), "build-DependenciesLayer"],
        env={"PATH": os.environ["PATH"], "ARTIFACTS_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode
    assert "Run `make build` instead of `sam build`" in done.stderr
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------------- interpreters
def test_an_interpreter_is_found_by_its_version_and_a_missing_one_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shim = tmp_path / "bin" / "python3.99"  # on the PATH as pyenv's of an inactive version: it only fails
    shim.parent.mkdir()
    shim.write_text("#!/bin/sh\nexit 127\n")
    shim.chmod(0o755)
    monkeypatch.setenv("PATH", f"{shim.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path / "pyenv"))
    assert interpreters.compiler("3.99") is None
    inactive = tmp_path / "pyenv" / "versions" / "3.99.1" / "bin" / "python"
    inactive.parent.mkdir(parents=True)
    inactive.write_text("#!/bin/sh\necho 3.99\n")
    inactive.chmod(0o755)
    assert interpreters.compiler("3.99") == inactive


# ---------------------------------------------------------------------- values
@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        (
            "Runtime",
            "python3.11",
            "Runtime=python3.11 is not possible; set Runtime to one of: python3.12, python3.13.",
        ),
        ("Environment", "Prod", "Environment=Prod is not possible; set Environment to at most 32"),
        ("Environment", "a\n", "Environment=a\n is not possible"),
        ("ApiTimeoutMillis", "3000", "set ApiTimeoutMillis to a number from 5000 to 125000."),
        ("ApiTimeoutMillis", "soon", "set ApiTimeoutMillis to a number from 5000 to 125000."),
        ("CallPromptConcurrency", "-1", "set CallPromptConcurrency to a value that matches"),
        ("Enviroment", "dev", "Enviroment is not a parameter of template.yaml."),
    ],
)
def test_a_value_that_cloudformation_would_refuse_is_named(name: str, value: str, said: str) -> None:
    [sentence] = parameters.problems({name: value}, DECLARED)
    assert said in sentence


@pytest.mark.parametrize("name", ["local", "dev", "prod", "staging", "eu-1"])
def test_any_name_is_a_deployment(name: str) -> None:
    assert parameters.problems({"Environment": name}, DECLARED) == []
