"""Rights in template.yaml, as SAM translates it: named one by one, the wide ones with their reasons."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from template_lint import translated
from tests.template.test_template import FUNCTIONS, MODEL_CALLERS, RESOURCES, TEMPLATE

ROOT = Path(__file__).parent.parent.parent
EVERYTHING = translated(GradualDeployment="true", UsageEventBus="calls")["Resources"]

# Every pattern among the resources of the policies that is more than the objects of one bucket, and why.
WIDE = {
    "arn:${AWS::Partition}:codedeploy:${AWS::Region}:${AWS::AccountId}:deploymentgroup:"
    "${AWS::StackName}-ServerlessDeploymentApplication-*/*": (
        "SAM makes the application; its name is not known before."
    ),
    "arn:${AWS::Partition}:cloudformation:${AWS::Region}:${AWS::AccountId}:stack/${AWS::StackName}/*": (
        "Whoever names a stack does not know the id that its ARN ends in."
    ),
}
# Every policy of AWS, and why. None of them reads anything of ours.
MANAGED = {
    "service-role/AWSLambdaBasicExecutionRole": "Writes log lines; SAM gives it to every function.",
    "AWSXrayWriteOnlyAccess": "Sends traces; X-Ray has no resources to narrow that to.",
    "service-role/AmazonAPIGatewayPushToCloudWatchLogs": "API Gateway's own role for an account and region.",
    "service-role/AWSCodeDeployRoleForLambda": "SAM gives it to CodeDeploy, for gradual deployments only.",
}
NEED_NO_STORE = {"ListModelsFunction"}


def without_conditions(statement: dict[str, Any]) -> dict[str, Any]:
    """The statement whatever the parameters."""
    return dict(statement["Fn::If"][1]) if "Fn::If" in statement else statement


def statements(function: str) -> list[dict[str, Any]]:
    """What a function may do, whatever the parameters."""
    return [
        without_conditions(statement)
        for policy in FUNCTIONS[function].get("Policies", [])
        for statement in policy["Statement"]
    ]


def documents() -> Iterator[tuple[str, dict[str, Any]]]:
    """Every policy that allows somebody something, after SAM's translation."""
    for name, resource in EVERYTHING.items():
        properties = resource["Properties"]
        if resource["Type"] == "AWS::IAM::Role":
            yield from ((name, policy["PolicyDocument"]) for policy in properties.get("Policies", []))
        elif resource["Type"] in ("AWS::IAM::Policy", "AWS::IAM::ManagedPolicy"):
            yield name, properties["PolicyDocument"]


def listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def text_of(resource: Any) -> str:
    """A resource of a statement, with what CloudFormation fills in as its name."""
    if isinstance(resource, str):
        return resource
    [(function, value)] = resource.items()
    if function == "Fn::Sub":
        return str(value)
    return "${" + (value if isinstance(value, str) else ".".join(value)) + "}"


def rights() -> list[tuple[str, dict[str, Any]]]:
    return [(name, without_conditions(s)) for name, document in documents() for s in document["Statement"]]


def test_a_resource_with_a_wildcard_has_a_reason() -> None:
    seen = set()
    for name, statement in rights():
        for resource in map(text_of, listed(statement["Resource"])):
            if "*" in resource and not re.fullmatch(
                r"(\$\{PromptBucket\.Arn\}|arn:\S+:s3:::\S+-prompts-\S+)/\*", resource
            ):
                assert resource in WIDE, f"{name}: {resource}"
                seen.add(resource)
    assert seen == WIDE.keys()


def test_a_policy_of_aws_has_a_reason() -> None:
    attached = {
        text_of(arn).partition(":policy/")[2]
        for resource in EVERYTHING.values()
        if resource["Type"] == "AWS::IAM::Role"
        for arn in resource["Properties"].get("ManagedPolicyArns", [])
    }
    assert attached == MANAGED.keys()


def test_rights_are_named_one_by_one_and_nobody_gives_rights_to_others() -> None:
    for name, statement in rights():
        assert not {"NotAction", "NotResource", "NotPrincipal"} & statement.keys(), name
        assert statement["Effect"] == "Allow", name
        for action in listed(statement["Action"]):
            assert "*" not in action, f"{name}: {action}"
            assert action.partition(":")[0] not in ("iam", "sts", "lambda:Update"), f"{name}: {action}"


def test_only_services_of_aws_take_the_roles() -> None:
    for name, resource in EVERYTHING.items():
        if resource["Type"] == "AWS::IAM::Role":
            for statement in resource["Properties"]["AssumeRolePolicyDocument"]["Statement"]:
                assert statement["Principal"].keys() == {"Service"}, name
                assert statement["Action"] in ("sts:AssumeRole", ["sts:AssumeRole"]), name


@pytest.mark.parametrize("function", sorted(FUNCTIONS))
def test_a_function_has_the_rights_that_are_written_there_and_those_of_its_destinations(
    function: str,
) -> None:
    assert statements(function) or function in NEED_NO_STORE
    role = EVERYTHING[f"{function}Role"]["Properties"]
    given = [s for policy in role.get("Policies", []) for s in policy["PolicyDocument"]["Statement"]]
    written = {statement["Sid"] for statement in statements(function)}
    added = [s for s in map(without_conditions, given) if s.get("Sid") not in written]
    config = FUNCTIONS[function].get("EventInvokeConfig", {}).get("DestinationConfig", {})
    assert sorted(json.dumps(s["Resource"]) for s in added) == sorted(
        json.dumps(destination["Destination"]) for destination in config.values()
    )


def test_each_secret_has_its_readers_and_no_variable_or_output_holds_one() -> None:
    readers = {
        (name, action, text_of(resource))
        for name, s in rights()
        for action in listed(s["Action"])
        for resource in listed(s["Resource"])
        if action.startswith("secretsmanager:")
    }
    read = "secretsmanager:GetSecretValue"
    assert readers == {
        ("AuthorizeFunctionRole", read, "${KeyPepper.Id}"),
        *((f"{function}Role", read, "${OpenAIKey.Id}") for function in MODEL_CALLERS),
        ("OperatorsPolicy", read, "${KeyPepper.Id}"),
        ("OperatorsPolicy", "secretsmanager:PutSecretValue", "${OpenAIKey.Id}"),
    }
    assert "{{resolve:" not in (ROOT / "template.yaml").read_text()
    assert not [
        name for name, p in TEMPLATE["Parameters"].items() if re.search("secret|password|token", name, re.I)
    ]


# The tables that hold several kinds of items, and the items that each may touch there. The local AWS does not
# hold calls to this; DynamoDB does.
ITEMS = {
    ("CallPromptFunction", "PromptTable", "dynamodb:GetItem"): {
        "prompt",
        "generation",
        "labels",
        "history#*",
    },
    ("CallPromptFunction", "PromptTable", "dynamodb:Query"): {"prompt"},
    ("CallPromptFunction", "UsageTable", "dynamodb:PutItem"): {"call#*"},
    ("ListPromptsFunction", "PromptTable", "dynamodb:Query"): {"prompt"},
    ("GetPromptMetadataFunction", "PromptTable", "dynamodb:GetItem"): {"prompt", "labels", "history#*"},
    ("GetPromptMetadataFunction", "PromptTable", "dynamodb:Query"): {"prompt", "labels", "history#*"},
    ("GetUsageStatsFunction", "UsageTable", "dynamodb:Query"): {"rollup#*"},
    ("HealthFunction", "PromptTable", "dynamodb:GetItem"): {"generation"},
    ("HealthFunction", "UsageTable", "dynamodb:Query"): {"rollup#*"},
    ("IndexPromptFunction", "PromptTable", "dynamodb:GetItem"): {"prompt", "includers#*"},
    ("IndexPromptFunction", "PromptTable", "dynamodb:Query"): {"prompt", "includers#*"},
    ("IndexPromptFunction", "PromptTable", "dynamodb:PutItem"): {"prompt", "history#*", "includers#*"},
    ("IndexPromptFunction", "PromptTable", "dynamodb:UpdateItem"): {"generation"},
    ("RollUpUsageFunction", "UsageTable", "dynamodb:UpdateItem"): {"call#*", "rollup#*"},
    ("DrainUsageFunction", "UsageTable", "dynamodb:PutItem"): {"call#*"},
}
HOLD_SEVERAL_KINDS = [str({"Fn::GetAtt": [table, "Arn"]}) for table in ("PromptTable", "UsageTable")]
SAME = {"CallPromptAsyncFunction": "CallPromptFunction", "ReconcileFunction": "IndexPromptFunction"}


def test_within_a_table_each_function_touches_its_own_kinds_of_items() -> None:
    found = {}
    for function in FUNCTIONS:
        for statement in statements(function):
            for action in listed(statement["Action"]):
                if str(statement["Resource"]) in HOLD_SEVERAL_KINDS:
                    table = statement["Resource"]["Fn::GetAtt"][0]
                    keys = statement["Condition"]["ForAllValues:StringLike"]["dynamodb:LeadingKeys"]
                    found[function, table, action] = set(keys)
    same = {
        (f, table, action): keys
        for (of, table, action), keys in ITEMS.items()
        for f, g in SAME.items()
        if g == of
    }
    assert found == {**ITEMS, **same}


def test_authors_move_labels_and_write_no_other_item() -> None:
    policy = RESOURCES["PromptAuthorsPolicy"]["Properties"]["PolicyDocument"]["Statement"]
    writes = {
        action: set(s["Condition"]["ForAllValues:StringLike"]["dynamodb:LeadingKeys"])
        for s in map(without_conditions, policy)
        for action in listed(s["Action"])
        if action in ("dynamodb:PutItem", "dynamodb:UpdateItem", "dynamodb:DeleteItem")
    }
    assert writes == {"dynamodb:PutItem": {"labels", "moves#*"}, "dynamodb:UpdateItem": {"generation"}}
