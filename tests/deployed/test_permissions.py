"""What each function may touch on the deployed stack: what its work needs, and nothing beside it."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from botocore.exceptions import ClientError

from local_aws import emulator as local
from local_aws.stack import Stack, deploy
from tests.deployed.acting_as import (
    Operation,
    Resources,
    administrator,
    assume,
    make_neighbours,
    operations,
    user,
)

pytestmark = pytest.mark.aws
BUS = "calls"

_MAKES_CALLS = (
    *("prompts:read version", "prompts:list", "PromptTable:get", "PromptTable:query"),
    *("UsageTable:put", "UsageQueue:send", "BudgetTable:update", "default bus:put", "OpenAIKey:read"),
    *("OutcomeTable:put", "OutcomeTable:update", "OutcomeTable:delete", "ReportFailureFunction:invoke"),
)
_INDEXES = (
    *("prompts:read", "prompts:read version", "prompts:list", "prompts:list versions"),
    *("PromptTable:get", "PromptTable:query", "PromptTable:put", "PromptTable:update", "IndexFailures:send"),
)

# Each function, what it may do, and the test that sees it do its work with no more than that.
WORK: dict[str, tuple[set[str], str]] = {
    "AuthorizeFunction": ({"KeyTable:get", "KeyPepper:read"}, "test_access"),
    "CallPromptFunction": ({*_MAKES_CALLS}, "test_openai_upstream"),
    "ListModelsFunction": (set(), "test_access"),
    "ListPromptsFunction": ({"PromptTable:query"}, "test_access"),
    "GetPromptMetadataFunction": ({"PromptTable:get", "PromptTable:query"}, "test_deployed_stack"),
    "GetUsageStatsFunction": ({"UsageTable:query"}, "test_usage_end_to_end"),
    "HealthFunction": ({"PromptTable:get", "UsageTable:query"}, "test_access"),
    "CheckDeploymentFunction": ({"new version:invoke"}, "test_deployed_stack"),
    "CallPromptAsyncFunction": (
        {*_MAKES_CALLS, "CallAnswers:send", "CallFailures:send", "CallQueue:receive", "CallQueue:delete"},
        "test_call_events",
    ),
    "ReportFailureFunction": ({"CallFailures:send"}, "test_call_events"),
    "IndexPromptFunction": ({*_INDEXES}, "test_deployed_stack"),
    "ReconcileFunction": ({*_INDEXES}, "test_deployed_stack"),
    "RollUpUsageFunction": (
        {"UsageTable:update", "RollUpFailures:send"},
        "test_usage_end_to_end",
    ),
    "PublishUsageFunction": (
        {"usage bus:put", "PublishFailures:send"},
        "test_usage_events",
    ),
    "DrainUsageFunction": (
        {"UsageTable:put", "UsageQueue:receive", "UsageQueue:delete"},
        "test_usage_end_to_end",
    ),
}


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """A stack with everything that is there by parameter."""
    with local.running(f"tests-permissions-{os.getpid()}") as running:
        deployed = deploy(running, TestLatency="none", UsageEventBus=BUS)
        make_neighbours(deployed, BUS)
        yield deployed


@pytest.fixture(scope="module")
def resources(stack: Stack) -> Resources:
    return Resources.of(stack)


@pytest.fixture(scope="module")
def tried(resources: Resources) -> dict[str, Operation]:
    return operations(resources, BUS)


def test_every_function_is_in_the_table_and_every_right_in_it_is_tried(
    resources: Resources, tried: dict[str, Operation]
) -> None:
    assert WORK.keys() == resources.functions.keys()
    assert set().union(*(rights for rights, _ in WORK.values())) <= tried.keys()


def test_whoever_deployed_the_stack_may_do_all_that_is_tried(
    stack: Stack, tried: dict[str, Operation]
) -> None:
    """So a denial below is one of the role's policies and of nothing else."""
    admin = administrator(stack)
    assert [name for name, operation in tried.items() if not admin.may(operation)] == []


@pytest.mark.parametrize("function", sorted(WORK))
def test_a_function_may_do_its_work_and_nothing_else(
    stack: Stack, resources: Resources, tried: dict[str, Operation], function: str
) -> None:
    role = assume(stack, resources.roles[function])
    assert {name for name, operation in tried.items() if role.may(operation)} == WORK[function][0]


def test_every_function_has_a_role_of_its_own(resources: Resources) -> None:
    assert len(set(resources.roles.values())) == len(resources.functions)


@pytest.mark.parametrize("function", sorted(WORK))
def test_nobody_but_lambda_takes_a_functions_role(stack: Stack, resources: Resources, function: str) -> None:
    everything = {"Effect": "Allow", "Action": "sts:AssumeRole", "Resource": "*"}
    ambitious = user(stack, f"ambitious-{function}", inline=everything)
    with pytest.raises(ClientError, match="AccessDenied"):
        ambitious.client("sts").assume_role(RoleArn=resources.roles[function], RoleSessionName="taken")
