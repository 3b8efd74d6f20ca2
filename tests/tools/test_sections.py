"""samconfig.toml: what is missing or wrong is said before anything is built, and in which section."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from deployment import sections, stack_values
from deployment.refusals import RefusedError
from deployment.sections import Section
from deployment.stack_values import Stack
from tests.tools.test_targets import DECLARED, ROOT, SAM_PYTHON, tool

_READ = """
import dataclasses, json, sys
from pathlib import Path
from cfn_yaml import load_template
from deployment import sections
from deployment.refusals import RefusedError
try:
    found = sections.read(sys.argv[1], load_template()["Parameters"], Path(sys.argv[2]))
except RefusedError as error:
    sys.exit(str(error))
print(json.dumps(dataclasses.asdict(found)))
"""


def read(name: str, content: str, folder: Path) -> tuple[dict[str, Any], str]:
    """The section, or what is said against it, in the environment whose SAM reads it."""
    path = folder / "samconfig.toml"
    path.write_text(content)
    done = subprocess.run(
        [str(SAM_PYTHON), "-c", _READ, name, str(path)],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": f"{ROOT}/tools"},
        capture_output=True,
        text=True,
    )
    return (json.loads(done.stdout) if done.returncode == 0 else {}), done.stderr


def test_a_deployment_without_a_section_is_told_which_lines_to_add_before_anything_is_built() -> None:
    done = tool("deploy", "--section", "staging")
    assert done.returncode == 1
    assert done.stdout == ""
    first, _, lines = done.stderr.partition("\n\n")
    assert first.startswith("samconfig.toml does not describe a deployment named staging; add this section")
    assert lines.startswith("[staging.deploy.parameters]\n")


def test_the_lines_that_are_shown_are_a_section_that_can_be_deployed(tmp_path: Path) -> None:
    lines = tool("deploy", "--section", "staging").stderr.partition("\n\n")[2]
    found, said = read("staging", lines, tmp_path)
    assert said == ""
    assert (found["stack_name"], found["parameters"]["Environment"]) == ("llm-gateway-staging", "staging")


@pytest.mark.parametrize(
    "overrides",
    [
        '"Environment=eu DeploymentCheck=\\"a b\\""',
        '["Environment=eu", "DeploymentCheck=\\"a b\\""]',
        '{Environment = "eu", DeploymentCheck = "a b"}',
    ],
)
def test_parameters_are_read_in_every_form_that_sam_takes(overrides: str, tmp_path: Path) -> None:
    head = '[eu.global.parameters]\nstack_name = "gateway"\nregion = "eu-central-1"\n[eu.deploy.parameters]\n'
    found, said = read("eu", f"{head}parameter_overrides = {overrides}\n", tmp_path)
    assert said == ""
    assert found["stack_name"] == "gateway"
    assert found["session"] == {"region": "eu-central-1"}
    assert found["parameters"]["Environment"] == "eu"
    assert found["parameters"]["DeploymentCheck"].strip('"') == "a b"


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ("Environment=eu Runtime=python3.11", "set Runtime to one of: python3.12, python3.13."),
        ("Environment=eu Colour=red", "Colour is not a parameter of template.yaml."),
        ("Environment=Europe!", "Environment=Europe! is not possible"),
        ("LogLevel=INFO", "Environment is missing; add Environment=eu"),
    ],
)
def test_a_wrong_value_is_said_with_its_section(overrides: str, said: str, tmp_path: Path) -> None:
    content = f'[eu.deploy.parameters]\nstack_name = "gateway"\nparameter_overrides = "{overrides}"\n'
    found, message = read("eu", content, tmp_path)
    assert found == {}
    assert message.startswith("parameter_overrides of [eu.deploy.parameters] in samconfig.toml: ")
    assert said in message


def test_what_belongs_into_the_section_is_not_taken_from_arguments() -> None:
    done = tool("deploy", "--section", "dev", "--parameter-overrides", "TestMode=false")
    assert done.returncode == 1
    assert "write it into [dev.deploy.parameters]" in done.stderr


def test_every_section_of_this_repository_is_checked() -> None:
    assert {"local", "dev", "prod"} <= set(sections.names())


# ------------------------------------------------------------ what a stack keeps
DEV = Section("dev", "llm-gateway-dev", {"Environment": "dev", "Runtime": "python3.13"})


def test_a_kept_value_that_is_no_longer_possible_is_refused_with_what_to_set() -> None:
    stack = Stack({"LogLevel": "TRACE", "ApiTimeoutMillis": "29000", "Gone": "x", "Runtime": "python3.11"})
    with pytest.raises(RefusedError) as caught:
        stack_values.check_kept(DEV, stack, DECLARED)
    message = str(caught.value)
    assert "llm-gateway-dev" in message
    assert "set LogLevel to one of: DEBUG, INFO, WARNING, ERROR." in message
    assert "[dev.deploy.parameters]" in message
    for fine in (
        "ApiTimeoutMillis",
        "Gone",
        "python3.11",
    ):  # possible; not in the template; set by the section
        assert fine not in message


def test_values_that_stay_or_change_unnamed_are_remarked() -> None:
    kept = {"DefaultModel": "openai/gpt-3.5-turbo", "ApiTimeoutMillis": "29000", "Runtime": "python3.11"}
    remarks = stack_values.remarks(DEV, Stack(kept), DECLARED)
    assert [remark.partition(";")[0] for remark in remarks] == [
        "The stack keeps DefaultModel=openai/gpt-3.5-turbo",
        "Runtime changes from python3.11 to python3.13.",
    ]


def test_sam_reads_the_file_in_which_deploy_hands_on_the_parameters_and_keeps_values_whole(
    tmp_path: Path,
) -> None:
    values = {"Environment": "eu", "DeploymentCheck": '{"prompt": "a b", "variables": {"word": "ok"}}'}
    written = tmp_path / "parameters-eu.yaml"  # the name that deploying.deploy gives it, with JSON in it
    written.write_text(json.dumps(values, indent=1))
    content = f'[eu.deploy.parameters]\nstack_name = "s"\nparameter_overrides = "file://{written}"\n'
    found, said = read("eu", content, tmp_path)
    assert (found["parameters"], said) == (values, "")


WHOLE = 'stack_name = "s"\nresolve_s3 = true\ncapabilities = "CAPABILITY_IAM"\n'


@pytest.mark.parametrize(
    "name", ["", "Production", "LIVE", "a b", "it's", "`id`", "$$(id)", "-x", "../x", "a" * 33]
)
def test_a_name_that_no_deployment_can_have_is_said_in_one_sentence_without_lines_to_add(name: str) -> None:
    done = subprocess.run(
        ["/usr/bin/env", "make", "--silent", "deploy", f"ENV={name}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    (sentence, *_) = done.stderr.splitlines()
    assert done.returncode
    assert sentence.startswith(
        f"samconfig.toml does not describe a deployment named {name.replace('$$', '$')!r}"
    )
    assert "parameters]" not in done.stderr


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[x\n", "samconfig.toml is not TOML"),
        ("\ufeff[eu.deploy.parameters]", "samconfig.toml is not TOML in UTF-8 without a byte order mark"),
        ("[eu]\ndeploy = 5", "[eu.deploy.parameters] in samconfig.toml must be a table"),
        ("[eu.deploy]\nparameters = [1]", "[eu.deploy.parameters] in samconfig.toml must be a table"),
        ("[eu.deploy.parameters]", "stack_name of [eu.deploy.parameters] in samconfig.toml is missing"),
        ('[eu.deploy.parameters]\nstack_name = "a b_c"', "stack_name of [eu.deploy.parameters]"),
    ],
)
def test_a_file_that_is_wrong_is_said_in_one_sentence(content: str, said: str, tmp_path: Path) -> None:
    found, message = read("eu", content, tmp_path)
    assert found == {}
    assert message.startswith(said)
    assert len(message.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("overrides", "at"),
    [
        ("Environment=eu TestMode = true", "'TestMode'"),
        ("Environment=eu junk", "'junk'"),
        ("Environment=eu AlarmEmail= LogLevel=INFO", "'AlarmEmail='"),
    ],
)
def test_what_sam_would_pass_over_without_a_word_is_refused(overrides: str, at: str, tmp_path: Path) -> None:
    _, message = read("eu", f"[eu.deploy.parameters]\n{WHOLE}parameter_overrides = '{overrides}'", tmp_path)
    assert f"parameter_overrides cannot be read at {at}: write Name=Value" in message


def test_a_value_may_be_empty_and_hold_spaces_and_signs(tmp_path: Path) -> None:
    overrides = 'Environment=eu AlarmEmail="" DeploymentCheck="a=b c"'
    found, said = read("eu", f"[eu.deploy.parameters]\n{WHOLE}parameter_overrides = '{overrides}'", tmp_path)
    assert said == ""
    assert found["parameters"]["AlarmEmail"].strip('"') == ""
    assert found["parameters"]["DeploymentCheck"].strip('"') == "a=b c"


def test_what_sam_would_ask_for_after_the_build_is_known_before(tmp_path: Path) -> None:
    lines = '[eu.deploy.parameters]\nstack_name = "s"\nparameter_overrides = "Environment=eu"'
    assert list(read("eu", lines, tmp_path)[0]["lacking"].values()) == [
        "resolve_s3 = true",
        'capabilities = "CAPABILITY_IAM"',
    ]
    whole = f'[eu.deploy.parameters]\n{WHOLE}parameter_overrides = "Environment=eu"'
    assert read("eu", whole, tmp_path)[0]["lacking"] == {}
    named = whole.replace('"CAPABILITY_IAM"', '["CAPABILITY_NAMED_IAM"]').replace(
        "resolve_s3 = true", 's3_bucket = "b"'
    )
    assert read("eu", named, tmp_path)[0]["lacking"] == {}
