"""A stack of before, whose parameter values SAM keeps, takes the template of now, or is told what to set.

`values_before.json` holds what a stack has that was deployed, with the defaults, before the first release.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from cfn_yaml import load_template
from deployment import stack_values, targets
from deployment.refusals import RefusedError
from deployment.sections import Section
from local_aws import artefacts
from local_aws.emulator import Emulator
from local_aws.stack import packaged_template, uploaded
from tests.tools.test_targets import DECLARED, TEMPLATE

pytestmark = pytest.mark.aws
BEFORE: dict[str, str] = json.loads((Path(__file__).parent / "values_before.json").read_text())
NAME = "llm-gateway-before"


@pytest.fixture
def cloudformation(emulator: Emulator) -> Iterator[Any]:
    client = boto3.client("cloudformation", **emulator.client_arguments)  # type: ignore[call-overload]
    yield client
    client.delete_stack(StackName=NAME)


def create(cloudformation: Any, **others: str) -> None:
    """A stack that holds the values of before; what it consists of plays no part."""
    values = {**BEFORE, **others}
    template = {
        "Parameters": {name: {"Type": "String", "Default": value} for name, value in values.items()},
        "Resources": {"Topic": {"Type": "AWS::SNS::Topic"}},
    }
    listed = [{"ParameterKey": name, "ParameterValue": value} for name, value in values.items()]
    cloudformation.create_stack(StackName=NAME, TemplateBody=json.dumps(template), Parameters=listed)
    assert status(cloudformation) == "CREATE_COMPLETE"


def status(cloudformation: Any) -> str:
    while True:
        [stack] = cloudformation.describe_stacks(StackName=NAME)["Stacks"]
        if stack["StackStatus"].endswith(("COMPLETE", "FAILED")):
            return str(stack["StackStatus"])
        time.sleep(0.1)


def update(cloudformation: Any, template_url: str, given: Mapping[str, str]) -> None:
    """As `sam deploy` does: what the section says, and the previous value of all the rest."""
    kept = [{"ParameterKey": name, "UsePreviousValue": True} for name in BEFORE if name not in given]
    set_now = [{"ParameterKey": name, "ParameterValue": value} for name, value in given.items()]
    cloudformation.update_stack(
        StackName=NAME,
        TemplateURL=template_url,
        Capabilities=["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"],
        Parameters=[*kept, *set_now],
    )


@pytest.fixture(scope="module")
def template_url(emulator: Emulator) -> str:
    template = load_template()
    packaged = packaged_template(template, emulator, artefacts.build(template, lambda _: None))
    return uploaded(packaged, emulator)


def test_every_value_of_before_that_is_kept_is_still_possible() -> None:
    section = Section("dev", NAME, targets.default(TEMPLATE).parameters)
    stack_values.check_kept(section, stack_values.Stack(BEFORE), DECLARED)


def test_a_stack_of_before_is_updated_with_the_values_that_it_holds(
    cloudformation: Any, template_url: str
) -> None:
    create(cloudformation)
    update(cloudformation, template_url, targets.default(TEMPLATE).parameters)
    assert status(cloudformation) == "UPDATE_COMPLETE"
    held = stack_values.read(cloudformation, NAME).values
    assert {name: held[name] for name in BEFORE} == BEFORE


def test_a_python_that_is_gone_is_refused_by_cloudformation_and_before_it_by_name(
    cloudformation: Any, template_url: str
) -> None:
    create(cloudformation, Runtime="python3.11")
    with pytest.raises(ClientError, match=r"Runtime.*python3\.11"):
        update(cloudformation, template_url, {})
    held = stack_values.read(cloudformation, NAME)
    with pytest.raises(
        RefusedError, match=r"Runtime=python3\.11 is not possible; set Runtime to one of: python3\.12"
    ):
        stack_values.check_kept(Section("dev", NAME, {}), held, DECLARED)
    section = Section("dev", NAME, targets.default(TEMPLATE).parameters)  # as `make deploy` always sets it
    stack_values.check_kept(section, held, DECLARED)
    remarks = stack_values.remarks(section, held, DECLARED)
    assert remarks == ["Runtime changes from python3.11 to python3.13."]


def test_a_stack_that_does_not_exist_holds_nothing_and_one_that_cannot_be_read_says_why(
    emulator: Emulator,
) -> None:
    client = boto3.client("cloudformation", **emulator.client_arguments)  # type: ignore[call-overload]
    assert stack_values.read(client, "never-deployed") == stack_values.Stack({})
    once = Config(retries={"total_max_attempts": 1})
    arguments = {**emulator.client_arguments, "endpoint_url": "http://127.0.0.1:9", "config": once}
    nowhere = boto3.client("cloudformation", **arguments)  # type: ignore[call-overload]
    unread = stack_values.read(nowhere, NAME)
    assert unread.values == {}
    assert "127.0.0.1:9" in str(unread.unread)
