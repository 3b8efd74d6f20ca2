"""template.yaml, as written and as SAM translates it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from cfn_yaml import load_template
from llm_gateway.bootstrap.settings import Settings
from template_lint import translated

ROOT = Path(__file__).parent.parent.parent
TEMPLATE = load_template()
RESOURCES: dict[str, Any] = TEMPLATE["Resources"]
FUNCTIONS = {n: r["Properties"] for n, r in RESOURCES.items() if r["Type"] == "AWS::Serverless::Function"}
LONGEST_CALL_S = 120
SOURCES = {n: r["Properties"] for n, r in RESOURCES.items() if r["Type"] == "AWS::Lambda::EventSourceMapping"}
MODEL_CALLERS = {"CallPromptFunction", "CallPromptAsyncFunction"}


def folder_of(function: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", function.removesuffix("Function")).lower()


API = RESOURCES["Api"]["Properties"]["DefinitionBody"]
ANY = "x-amazon-apigateway-any-method"


def routes() -> dict[tuple[str, str], dict[str, Any]]:
    return {
        (method.upper(), path): operation
        for path, operations in API["paths"].items()
        for method, operation in operations.items()
        if method != ANY
    }


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
            expected = "NONE" if path in ("/health", "/health/ready") else authentication
            assert operation["security"] == [{expected: []}], path


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


def test_every_asynchronous_path_has_a_place_for_what_fails() -> None:
    for name, properties in FUNCTIONS.items():
        s3 = any(event["Type"] == "S3" for event in properties.get("Events", {}).values())
        if s3 or name in MODEL_CALLERS:
            destination = properties["EventInvokeConfig"]["DestinationConfig"]["OnFailure"]
            assert destination["Type"] == ("Lambda" if name in MODEL_CALLERS else "SQS")
    for name, source in SOURCES.items():
        assert source["FunctionResponseTypes"] == ["ReportBatchItemFailures"], name
        if "StartingPosition" in source:
            assert source["DestinationConfig"]["OnFailure"]["Destination"]["Fn::GetAtt"][1] == "Arn", name


def test_a_failed_invoke_is_told_of_by_a_function_that_drops_the_request() -> None:
    for function in MODEL_CALLERS:
        destination = FUNCTIONS[function]["EventInvokeConfig"]["DestinationConfig"]["OnFailure"]
        assert destination["Destination"] == {"Fn::GetAtt": ["ReportFailureFunction", "Arn"]}
    assert "DestinationConfig" not in FUNCTIONS["ReportFailureFunction"]["EventInvokeConfig"]


def test_a_call_that_failed_is_never_made_again_by_lambda_itself() -> None:
    for function in MODEL_CALLERS:
        assert FUNCTIONS[function]["EventInvokeConfig"]["MaximumRetryAttempts"] == 0


def test_a_queued_call_is_not_delivered_again_while_it_may_still_be_answered() -> None:
    queue, function = RESOURCES["CallQueue"]["Properties"], FUNCTIONS["CallPromptAsyncFunction"]
    assert queue["VisibilityTimeout"] >= 6 * function["Timeout"]
    assert queue["RedrivePolicy"]["deadLetterTargetArn"] == {"Fn::GetAtt": ["CallDeadLetters", "Arn"]}
    # So that a message that is delivered again always finds what became of the first delivery.
    default_ttl = TEMPLATE["Parameters"]["IdempotencyTtlSeconds"]["Default"]
    assert default_ttl > queue["VisibilityTimeout"] * queue["RedrivePolicy"]["maxReceiveCount"]


def test_answers_are_encrypted_forgotten_and_in_no_backup() -> None:
    properties = RESOURCES["OutcomeTable"]["Properties"]
    assert properties["SSESpecification"]["SSEEnabled"] is True
    assert properties["TimeToLiveSpecification"] == {"AttributeName": "expires_at", "Enabled": True}
    assert "PointInTimeRecoverySpecification" not in properties


@pytest.mark.parametrize("source", ["RollUpUsageSource", "PublishUsageSource"])
def test_the_stream_delivers_only_new_ledger_items(source: str) -> None:
    [pattern] = [json.loads(f["Pattern"]) for f in SOURCES[source]["FilterCriteria"]["Filters"]]
    assert pattern == {"eventName": ["INSERT"], "dynamodb": {"Keys": {"pk": {"S": [{"prefix": "call#"}]}}}}


def test_calls_are_told_to_a_bus_only_if_one_is_named() -> None:
    assert TEMPLATE["Parameters"]["UsageEventBus"]["Default"] == ""
    assert RESOURCES["PublishUsageFunction"]["Condition"] == "HasUsageEventBus"
    assert RESOURCES["PublishUsageSource"]["Condition"] == "HasUsageEventBus"
    assert (
        SOURCES["PublishUsageSource"]["MaximumRecordAgeInSeconds"] < 86_400
    )  # within the stream's own memory


def test_a_models_file_is_read_by_those_who_need_it_and_nothing_beside_it() -> None:
    resource = translated()["Resources"]["ReadModelsFile"]
    assert resource["Condition"] == "HasModelsFile"
    [statement] = resource["Properties"]["PolicyDocument"]["Statement"]
    assert (statement["Action"], statement["Resource"]) == (
        "s3:GetObject",
        {"Fn::Sub": "arn:${AWS::Partition}:s3:::${ModelsFileBucket}/${ModelsFileKey}"},
    )
    readers = {role["Ref"].removesuffix("Role") for role in resource["Properties"]["Roles"]}
    told = {
        name
        for name, properties in FUNCTIONS.items()
        if "LLM_GATEWAY_MODELS_FILE" in properties.get("Environment", {}).get("Variables", {})
    }
    assert readers == told == {*MODEL_CALLERS, "ListModelsFunction"}
    place = {"Fn::Sub": "s3://${ModelsFileBucket}/${ModelsFileKey}"}
    for name in told:
        variables = FUNCTIONS[name]["Environment"]["Variables"]
        assert variables["LLM_GATEWAY_MODELS_FILE"] == {"Fn::If": ["HasModelsFile", place, ""]}


def test_every_function_that_writes_the_ledger_alarms_when_a_record_is_nowhere() -> None:
    watched = {
        dimension["Value"]
        for resource in RESOURCES.values()
        if resource["Type"] == "AWS::CloudWatch::Alarm"
        and resource["Properties"]["MetricName"] == "UsageNotRecorded"
        for dimension in resource["Properties"]["Dimensions"]
        if dimension["Name"] == "service"
    }
    assert watched == {folder_of(name) for name in MODEL_CALLERS}


def test_every_function_has_a_log_group_that_forgets() -> None:
    groups = {p["LoggingConfig"]["LogGroup"]["Ref"] for p in FUNCTIONS.values()}
    assert len(groups) == len(FUNCTIONS)
    for group in groups:
        assert RESOURCES[group]["Properties"]["RetentionInDays"] == {"Ref": "LogRetentionDays"}


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


def test_each_function_is_asked_for_every_method_of_its_paths() -> None:
    """Which methods it takes is the function's to say: it answers the others with 405."""
    asked = {
        event["Properties"]["Path"]: (name, event["Properties"]["Method"])
        for name, properties in FUNCTIONS.items()
        for event in properties.get("Events", {}).values()
        if event["Type"] == "Api"
    }
    assert asked.keys() == API["paths"].keys()
    for path, operations in translated()["Resources"]["Api"]["Properties"]["Body"]["paths"].items():
        own = next(operation for method, operation in operations.items() if method != ANY)
        assert operations[ANY] == own, path  # the same function behind the same authorizer
        name, method = asked[path]
        assert (name in json.dumps(own["x-amazon-apigateway-integration"]["uri"]), method) == (True, "ANY")


def gateway_response(kind: str, *, by_iam: bool = False) -> tuple[int | None, dict[str, Any]]:
    """Status and error of one of API Gateway's own answers."""

    def decided(value: Any) -> Any:
        if isinstance(value, dict) and "Fn::If" in value:
            condition, then, otherwise = value["Fn::If"]
            assert condition == "AccessByIam"
            return then if by_iam else otherwise
        return value

    response = API["x-amazon-apigateway-gateway-responses"][kind]
    text = decided(response["responseTemplates"]["application/json"])
    filled = re.sub(r"\$context\.error\.messageString", '"m"', text)
    status = decided(response.get("statusCode"))
    error = json.loads(re.sub(r"\$context\.[A-Za-z.]+", "x", filled))["error"]
    return None if status is None else int(status), error


@pytest.mark.parametrize("by_iam", [False, True])
@pytest.mark.parametrize("kind", API["x-amazon-apigateway-gateway-responses"])
def test_gateway_responses_have_the_shape_of_every_other_error(kind: str, by_iam: bool) -> None:
    status, error = gateway_response(kind, by_iam=by_iam)
    assert set(error) == {"message", "type", "code", "param", "request_id", "retryable", "details"}
    headers = API["x-amazon-apigateway-gateway-responses"][kind]["responseParameters"]
    assert headers["gatewayresponse.header.x-request-id"] == "context.requestId"
    assert ("gatewayresponse.header.retry-after" in headers) is (status == 429)


@pytest.mark.parametrize(
    ("kind", "by_iam", "status", "code", "type_", "retryable"),
    [
        ("MISSING_AUTHENTICATION_TOKEN", False, 404, "route_not_found", "not_found_error", False),
        ("MISSING_AUTHENTICATION_TOKEN", True, 401, "unauthorized", "authentication_error", False),
        ("UNAUTHORIZED", False, 401, "unauthorized", "authentication_error", False),
        ("ACCESS_DENIED", False, 401, "x", "authentication_error", False),  # the authorizer's code
        ("ACCESS_DENIED", True, 403, "forbidden", "permission_error", False),
        ("INVALID_SIGNATURE", True, 403, "forbidden", "permission_error", False),
        ("EXPIRED_TOKEN", True, 403, "forbidden", "permission_error", False),
        ("REQUEST_TOO_LARGE", False, 413, "body_too_large", "invalid_request_error", False),
        ("THROTTLED", False, 429, "x", "rate_limit_error", True),
        ("QUOTA_EXCEEDED", False, 429, "x", "rate_limit_error", True),
        ("AUTHORIZER_FAILURE", False, 503, "store_unavailable", "gateway_error", True),
    ],
)
def test_api_gateways_own_answers_mean_what_the_process_means_by_them(
    kind: str, by_iam: bool, status: int, code: str, type_: str, retryable: bool
) -> None:
    answered, error = gateway_response(kind, by_iam=by_iam)
    assert (answered, error["code"], error["type"], error["retryable"]) == (status, code, type_, retryable)
    text = json.dumps(API["x-amazon-apigateway-gateway-responses"][kind])
    assert ("$context.authorizer.code" in text) is (kind == "ACCESS_DENIED")


def test_samconfig_has_every_deployment_and_prod_is_not_in_test_mode() -> None:
    import tomllib

    config = tomllib.loads((ROOT / "samconfig.toml").read_text())
    assert {"local", "dev", "prod"} <= config.keys()
    assert "TestMode=false" in config["prod"]["deploy"]["parameters"]["parameter_overrides"]


def test_the_template_is_plain_yaml_below_cloudformations_limit() -> None:
    assert len(json.dumps(translated())) < 1_000_000
    assert yaml.compose((ROOT / "template.yaml").read_text())
