"""template.yaml, as written and as SAM translates it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from cfn_yaml import load_template
from llm_gateway.settings import Settings
from template_lint import translated

ROOT = Path(__file__).parent.parent.parent
TEMPLATE = load_template()
RESOURCES: dict[str, Any] = TEMPLATE["Resources"]
FUNCTIONS = {n: r["Properties"] for n, r in RESOURCES.items() if r["Type"] == "AWS::Serverless::Function"}
LONGEST_CALL_S = 120
NEED_NO_STORE = {"ListModelsFunction"}
MODEL_CALLERS = {"CallPromptFunction", "CallPromptAsyncFunction"}


def folder_of(function: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", function.removesuffix("Function")).lower()


def routes() -> dict[tuple[str, str], dict[str, Any]]:
    return {
        (event["Properties"]["Method"], event["Properties"]["Path"]): event["Properties"]
        for properties in FUNCTIONS.values()
        for event in properties.get("Events", {}).values()
        if event["Type"] == "Api"
    }


def statements(function: str) -> list[dict[str, Any]]:
    return [s for policy in FUNCTIONS[function].get("Policies", []) for s in policy["Statement"]]


def test_every_function_folder_is_deployed_and_every_function_has_its_folder() -> None:
    folders = {path.parent.name for path in (ROOT / "functions").glob("*/app.py")}
    assert {folder_of(name) for name in FUNCTIONS} == folders


def test_every_function_and_layer_is_built_by_a_makefile_that_knows_it() -> None:
    for name, resource in RESOURCES.items():
        if resource["Type"].startswith("AWS::Serverless::") and resource["Type"] != "AWS::Serverless::Api":
            assert resource["Metadata"]["BuildMethod"] == "makefile"
            source = resource["Properties"].get("ContentUri", TEMPLATE["Globals"]["Function"]["CodeUri"])
            assert f"build-{name}:" in (ROOT / source / "Makefile").read_text()


def test_the_api_has_exactly_the_routes_of_the_application() -> None:
    document = json.loads((ROOT / "docs" / "openapi.json").read_text())
    served = {
        (method.upper(), path.replace("{path}", "{path+}"))
        for path, operations in document["paths"].items()
        for method in operations
    }
    assert set(routes()) == served


@pytest.mark.parametrize("authentication", ["GatewayKeys", "AWS_IAM", "OpenAccess"])
def test_every_route_but_health_asks_who_calls(authentication: str) -> None:
    paths = translated(Authentication=authentication)["Resources"]["Api"]["Properties"]["Body"]["paths"]
    for path, operations in paths.items():
        for operation in operations.values():
            expected = "NONE" if path == "/health" else authentication
            assert operation["security"] == [{expected: []}], path


def test_keys_are_asked_for_unless_somebody_chose_otherwise_and_prod_is_never_open() -> None:
    assert TEMPLATE["Parameters"]["Authentication"]["Default"] == "GatewayKeys"
    [rule] = TEMPLATE["Rules"].values()
    assert rule["RuleCondition"] == {"Fn::Equals": [{"Ref": "Environment"}, "prod"]}
    [assertion] = rule["Assertions"]
    assert assertion["Assert"] == {"Fn::Not": [{"Fn::Equals": [{"Ref": "Authentication"}, "OpenAccess"]}]}


def test_every_function_behind_a_route_knows_how_callers_prove_who_they_are() -> None:
    for name, properties in FUNCTIONS.items():
        answers = any(event["Type"] == "Api" for event in properties.get("Events", {}).values())
        variables = properties.get("Environment", {}).get("Variables", {})
        if (answers and name != "HealthFunction") or name == "AuthorizeFunction":
            assert variables["LLM_GATEWAY_ACCESS"] == {
                "Fn::If": ["AccessByIam", "iam", {"Fn::If": ["AccessIsOpen", "open", "keys"]}]
            }, name


def test_the_api_is_regional_and_lists_its_methods_one_by_one() -> None:
    assert RESOURCES["Api"]["Properties"]["EndpointConfiguration"]["Type"] == "REGIONAL"
    assert all(method in {"GET", "POST"} for method, _ in routes())


def test_no_function_is_cut_off_before_the_longest_call_it_accepts() -> None:
    for function in MODEL_CALLERS:
        assert FUNCTIONS[function]["Timeout"] >= LONGEST_CALL_S + 5


@pytest.mark.parametrize("function", sorted(FUNCTIONS))
def test_every_variable_of_a_function_is_a_setting(function: str) -> None:
    variables = FUNCTIONS[function].get("Environment", {}).get("Variables", {})
    shared = TEMPLATE["Globals"]["Function"]["Environment"]["Variables"]
    names = {name.removeprefix("LLM_GATEWAY_").lower() for name in {**shared, **variables}}
    assert names <= set(Settings.__dataclass_fields__)


@pytest.mark.parametrize("function", sorted(FUNCTIONS))
def test_no_function_may_touch_everything(function: str) -> None:
    assert statements(function) or function in NEED_NO_STORE
    for statement in statements(function):
        actions = statement["Action"]
        for action in [actions] if isinstance(actions, str) else actions:
            assert "*" not in action
        assert statement["Resource"] != "*"


def test_each_secret_has_its_reader_and_no_variable_holds_one() -> None:
    readers = {
        (function, s["Resource"]["Fn::GetAtt"][0])
        for function in FUNCTIONS
        for s in statements(function)
        if "secretsmanager" in str(s["Action"])
    }
    assert readers == {
        ("AuthorizeFunction", "KeyPepper"), *((function, "OpenAIKey") for function in MODEL_CALLERS)
    }  # fmt: skip
    assert "resolve:secretsmanager" not in (ROOT / "template.yaml").read_text()


@pytest.mark.parametrize("table", ["PromptTable", "UsageTable", "BudgetTable"])
def test_tables_cost_nothing_idle_and_can_be_restored(table: str) -> None:
    properties = RESOURCES[table]["Properties"]
    assert properties["BillingMode"] == "PAY_PER_REQUEST"
    assert properties["PointInTimeRecoverySpecification"]["PointInTimeRecoveryEnabled"] is True
    assert properties["TimeToLiveSpecification"] == {"AttributeName": "expires_at", "Enabled": True}
    assert properties["SSESpecification"]["SSEEnabled"] is True


def test_the_bucket_is_versioned_private_encrypted_and_speaks_tls_only() -> None:
    bucket = RESOURCES["PromptBucket"]["Properties"]
    assert bucket["VersioningConfiguration"]["Status"] == "Enabled"
    assert set(bucket["PublicAccessBlockConfiguration"].values()) == {True}
    assert bucket["BucketEncryption"]
    [statement] = RESOURCES["PromptBucketPolicy"]["Properties"]["PolicyDocument"]["Statement"]
    assert statement["Effect"] == "Deny"
    assert statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}


def test_every_asynchronous_path_has_a_place_for_what_fails() -> None:
    for name, properties in FUNCTIONS.items():
        for event in properties.get("Events", {}).values():
            if event["Type"] == "DynamoDB":
                assert event["Properties"]["DestinationConfig"]["OnFailure"]["Type"] == "SQS"
                assert event["Properties"]["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
            if event["Type"] == "S3" or name in MODEL_CALLERS:
                config = properties["EventInvokeConfig"]
                assert config["DestinationConfig"]["OnFailure"]["Type"] == "SQS"


def test_a_call_that_failed_is_never_made_again_by_lambda_itself() -> None:
    for function in MODEL_CALLERS:
        assert FUNCTIONS[function]["EventInvokeConfig"]["MaximumRetryAttempts"] == 0


def test_a_queued_call_is_not_delivered_again_while_it_may_still_be_answered() -> None:
    queue, function = RESOURCES["CallQueue"]["Properties"], FUNCTIONS["CallPromptAsyncFunction"]
    assert queue["VisibilityTimeout"] >= 6 * function["Timeout"]
    assert queue["RedrivePolicy"]["deadLetterTargetArn"] == {"Fn::GetAtt": ["CallDeadLetters", "Arn"]}
    source = function["Events"]["CallQueued"]["Properties"]
    assert source["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
    # So that a message that is delivered again always finds what became of the first delivery.
    default_ttl = TEMPLATE["Parameters"]["IdempotencyTtlSeconds"]["Default"]
    assert default_ttl > queue["VisibilityTimeout"] * queue["RedrivePolicy"]["maxReceiveCount"]


def test_answers_are_encrypted_forgotten_and_in_no_backup() -> None:
    properties = RESOURCES["OutcomeTable"]["Properties"]
    assert properties["SSESpecification"]["SSEEnabled"] is True
    assert properties["TimeToLiveSpecification"] == {"AttributeName": "expires_at", "Enabled": True}
    assert "PointInTimeRecoverySpecification" not in properties
    for name, resource in RESOURCES.items():
        if resource["Type"] == "AWS::SQS::Queue":
            assert resource["Properties"]["SqsManagedSseEnabled"] is True, name


@pytest.mark.parametrize("function", ["RollUpUsageFunction", "PublishUsageFunction"])
def test_the_stream_delivers_only_new_ledger_items(function: str) -> None:
    event = FUNCTIONS[function]["Events"]["UsageRecorded"]["Properties"]
    [pattern] = [json.loads(f["Pattern"]) for f in event["FilterCriteria"]["Filters"]]
    assert pattern == {"eventName": ["INSERT"], "dynamodb": {"Keys": {"pk": {"S": [{"prefix": "call#"}]}}}}


def test_calls_are_told_to_a_bus_only_if_one_is_named() -> None:
    assert TEMPLATE["Parameters"]["UsageEventBus"]["Default"] == ""
    assert RESOURCES["PublishUsageFunction"]["Condition"] == "HasUsageEventBus"
    source = translated()["Resources"]["PublishUsageFunctionUsageRecorded"]
    assert source["Condition"] == "HasUsageEventBus"
    assert source["Properties"]["MaximumRecordAgeInSeconds"] < 86_400  # within the stream's own memory


def test_every_function_has_a_log_group_that_forgets() -> None:
    groups = {p["LoggingConfig"]["LogGroup"]["Ref"] for p in FUNCTIONS.values()}
    assert len(groups) == len(FUNCTIONS)
    for group in groups:
        assert RESOURCES[group]["Properties"]["RetentionInDays"] == {"Ref": "LogRetentionDays"}


def test_whatever_holds_data_outlives_the_stack() -> None:
    for name, resource in RESOURCES.items():
        kinds = ("AWS::S3::Bucket", "AWS::DynamoDB::Table", "AWS::SecretsManager::Secret")
        if resource["Type"] in kinds and name != "OutcomeTable":  # which forgets after an hour anyway
            assert resource["DeletionPolicy"] == "RetainExceptOnCreate", name


def test_nothing_depends_on_itself_after_translation() -> None:
    """SAM puts the notification on the bucket; a function that refers to the bucket closes a circle."""
    resources = translated()["Resources"]
    needs = {name: references(resource) & resources.keys() for name, resource in resources.items()}
    while needs:
        free = {name for name, on in needs.items() if not on & needs.keys()}
        assert free, f"a circle among {sorted(needs)}"
        needs = {name: on for name, on in needs.items() if name not in free}


def references(value: Any) -> set[str]:
    """Names of the resources that `value` waits for."""
    if isinstance(value, list):
        return set().union(*(references(item) for item in value))
    if not isinstance(value, dict):
        return set()
    return set().union(*(named_by(name, inner) for name, inner in value.items()))


def named_by(name: str, inner: Any) -> set[str]:
    first = inner[0] if isinstance(inner, list) and inner else inner
    match name:
        case "Ref":
            return {inner}
        case "Fn::GetAtt":
            return {first.partition(".")[0]}
        case "Fn::Sub":
            return set(re.findall(r"\$\{([A-Za-z0-9]+)[}.]", first))
        case "DependsOn":
            return set(inner) if isinstance(inner, list) else {inner}
    return references(inner)


def test_gateway_responses_have_the_shape_of_every_other_error() -> None:
    responses = RESOURCES["Api"]["Properties"]["GatewayResponses"]
    for response in responses.values():
        text = response["ResponseTemplates"]["application/json"]
        filled = re.sub(r"\$context\.error\.messageString", '"m"', text)
        error = json.loads(re.sub(r"\$context\.[A-Za-z.]+", "x", filled))["error"]
        assert set(error) == {"message", "type", "code", "param", "request_id", "retryable", "details"}


def test_samconfig_has_every_deployment_and_prod_is_not_in_test_mode() -> None:
    import tomllib

    config = tomllib.loads((ROOT / "samconfig.toml").read_text())
    assert {"local", "dev", "prod"} <= config.keys()
    assert "TestMode=false" in config["prod"]["deploy"]["parameters"]["parameter_overrides"]


def test_the_template_is_plain_yaml_below_cloudformations_limit() -> None:
    assert len(json.dumps(translated())) < 1_000_000
    assert yaml.compose((ROOT / "template.yaml").read_text())
