"""template.yaml as a security review wants it: encryption, transport, what stays and what is told."""

from __future__ import annotations

import re
from typing import Any

import pytest

from llm_gateway.bootstrap.settings import FOR_TRYING
from tests.template.test_rights import EVERYTHING, NEED_NO_STORE, documents, listed, without_conditions
from tests.template.test_template import FUNCTIONS, MODEL_CALLERS, RESOURCES, SOURCES, TEMPLATE

BY_PARAMETER = "KmsKeyArn"
HOLD_DATA = ("AWS::S3::Bucket", "AWS::DynamoDB::Table", "AWS::SecretsManager::Secret")


def of_type(kind: str) -> dict[str, dict[str, Any]]:
    return {name: r["Properties"] for name, r in RESOURCES.items() if r["Type"] == kind}


# ------------------------------------------------------------------ who is let in
def test_keys_are_asked_for_by_default_and_only_environments_for_trying_may_be_open() -> None:
    assert TEMPLATE["Parameters"]["Authentication"]["Default"] == "GatewayKeys"
    rule = TEMPLATE["Rules"]["OpenAccessOnlyForTrying"]
    assert rule["RuleCondition"] == {"Fn::Equals": [{"Ref": "Authentication"}, "OpenAccess"]}
    [assertion] = rule["Assertions"]
    assert assertion["Assert"] == {"Fn::Contains": [["local", "dev"], {"Ref": "Environment"}]}


def test_every_environment_but_those_for_trying_is_strict_in_all_places_alike() -> None:
    names = [{"Fn::Equals": [{"Ref": "Environment"}, name]} for name in ("local", "dev")]
    assert TEMPLATE["Conditions"]["IsForTrying"] == {"Fn::Or": names}
    assert {"local", "dev"} == FOR_TRYING


def test_only_this_api_this_bucket_and_this_schedule_invoke_functions_by_permission() -> None:
    for name, resource in EVERYTHING.items():
        if resource["Type"] == "AWS::Lambda::Permission":
            properties = resource["Properties"]
            assert properties["Principal"] in (
                *("apigateway.amazonaws.com", "s3.amazonaws.com", "events.amazonaws.com"),
            ), name
            assert {"SourceArn", "SourceAccount"} & properties.keys(), name


def test_snapshots_and_warm_environments_exclude_each_other() -> None:
    rule = TEMPLATE["Rules"]["SnapshotsOrWarmEnvironments"]
    assert rule["RuleCondition"] == {"Fn::Equals": [{"Ref": "SnapStart"}, "PublishedVersions"]}
    [assertion] = rule["Assertions"]
    assert assertion["Assert"] == {"Fn::Equals": [{"Ref": "ProvisionedConcurrency"}, ""]}


# ---------------------------------------------------------------------- encryption
def test_everything_that_keeps_data_is_encrypted_and_by_ones_own_key_if_there_is_one() -> None:
    ours = {"Fn::If": ["HasKmsKey", {"Ref": BY_PARAMETER}, {"Ref": "AWS::NoValue"}]}
    for name, table in of_type("AWS::DynamoDB::Table").items():
        encryption = table["SSESpecification"]
        assert (encryption["SSEEnabled"], encryption["KMSMasterKeyId"]) == (True, ours), name
        assert encryption["SSEType"]["Fn::If"][:2] == ["HasKmsKey", "KMS"], name
    for name, queue in of_type("AWS::SQS::Queue").items():
        assert queue["SqsManagedSseEnabled"] == {"Fn::If": ["HasKmsKey", False, True]}, name
        assert queue["KmsMasterKeyId"] == ours, name
    for kind in ("AWS::SecretsManager::Secret", "AWS::Logs::LogGroup"):
        assert [name for name, p in of_type(kind).items() if p["KmsKeyId"] != ours] == []
    assert RESOURCES["AlarmTopic"]["Properties"]["KmsMasterKeyId"] == ours
    [rule] = RESOURCES["PromptBucket"]["Properties"]["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    assert rule["ServerSideEncryptionByDefault"] == {
        "SSEAlgorithm": {"Fn::If": ["HasKmsKey", "aws:kms", "AES256"]}, "KMSMasterKeyID": ours
    }  # fmt: skip


def test_the_key_is_used_by_whoever_touches_what_it_encrypts_and_no_other_key_is() -> None:
    users = set()
    for name, document in documents():
        for statement in document["Statement"]:
            found = without_conditions(statement)
            if any(action.startswith("kms:") for action in listed(found["Action"])):
                assert statement["Fn::If"][0::2] == ["HasKmsKey", {"Ref": "AWS::NoValue"}], name
                assert found["Action"] == ["kms:Decrypt", "kms:GenerateDataKey"], name
                assert found["Resource"] == {"Ref": BY_PARAMETER}, name
                users.add(name)
    policies = {"PromptAuthorsPolicy", "OperatorsPolicy"}
    assert users == {
        *policies,
        *(f"{function}Role" for function in FUNCTIONS if function not in NEED_NO_STORE),
    }


# ----------------------------------------------------------------------- transport
@pytest.mark.parametrize(
    ("policy", "actions", "guarded"),
    [
        ("PromptBucketPolicy", "s3:*", {"PromptBucket"}),
        ("QueuePolicy", "sqs:*", set(of_type("AWS::SQS::Queue"))),
        ("AlarmTopicPolicy", "sns:Publish", {"AlarmTopic"}),
    ],
)
def test_nobody_gets_in_without_tls(policy: str, actions: str, guarded: set[str]) -> None:
    properties = RESOURCES[policy]["Properties"]
    [statement] = [s for s in properties["PolicyDocument"]["Statement"] if s["Effect"] == "Deny"]
    assert (statement["Principal"], statement["Action"]) == ("*", actions)
    assert statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
    on = properties.get("Queues") or properties.get("Topics") or [properties.get("Bucket")]
    assert {resource["Ref"] for resource in on} == guarded


def test_tls_is_asked_for_everywhere_but_on_the_local_aws() -> None:
    assert TEMPLATE["Conditions"]["HasTls"] == {
        "Fn::Not": [{"Fn::Equals": [{"Ref": "Environment"}, "local"]}]
    }
    conditional = [name for name, r in RESOURCES.items() if r.get("Condition") == "HasTls"]
    assert sorted(conditional) == ["PromptBucketPolicy", "QueuePolicy"]


def test_nothing_is_public() -> None:
    bucket = RESOURCES["PromptBucket"]["Properties"]
    assert set(bucket["PublicAccessBlockConfiguration"].values()) == {True}
    assert len(bucket["PublicAccessBlockConfiguration"]) == 4
    assert bucket["OwnershipControls"]["Rules"] == [{"ObjectOwnership": "BucketOwnerEnforced"}]
    for name, function in FUNCTIONS.items():
        assert "FunctionUrlConfig" not in function, name
    for resource in RESOURCES.values():
        if resource["Type"] in ("AWS::S3::BucketPolicy", "AWS::SQS::QueuePolicy", "AWS::SNS::TopicPolicy"):
            for statement in resource["Properties"]["PolicyDocument"]["Statement"]:
                assert statement["Effect"] == "Deny" or statement["Principal"].keys() == {"Service"}


# ---------------------------------------------------------------------- what stays
@pytest.mark.parametrize("table", sorted(set(of_type("AWS::DynamoDB::Table")) - {"OutcomeTable"}))
def test_a_table_can_be_restored_and_is_not_deleted_where_it_is_not_for_trying(table: str) -> None:
    properties = RESOURCES[table]["Properties"]
    assert properties["BillingMode"] == "PAY_PER_REQUEST"
    assert properties["PointInTimeRecoverySpecification"]["PointInTimeRecoveryEnabled"] is True
    assert properties["DeletionProtectionEnabled"] == {"Fn::If": ["IsForTrying", False, True]}
    if table != "KeyTable":  # keys stay until somebody ends them
        assert properties["TimeToLiveSpecification"] == {"AttributeName": "expires_at", "Enabled": True}


def test_the_bucket_keeps_versions() -> None:
    assert RESOURCES["PromptBucket"]["Properties"]["VersioningConfiguration"] == {"Status": "Enabled"}


def test_whatever_holds_data_outlives_the_stack() -> None:
    for name, resource in RESOURCES.items():
        if resource["Type"] in HOLD_DATA and name != "OutcomeTable":  # which forgets after an hour anyway
            assert resource["DeletionPolicy"] == "RetainExceptOnCreate", name
            assert resource["UpdateReplacePolicy"] == "Retain", name


# --------------------------------------------------------------------- what is told
def test_the_access_log_tells_who_when_and_how_it_ended_and_nothing_that_was_sent() -> None:
    text = RESOURCES["Api"]["Properties"]["AccessLogSetting"]["Format"]
    told = set(re.findall(r"\$context\.([A-Za-z.]+)", text))
    assert told == {
        *("requestId", "requestTimeEpoch", "httpMethod", "resourcePath", "status", "responseLatency"),
        *("authorizer.service", "authorizer.principalId", "identity.userArn", "identity.sourceIp"),
        *("error.responseType", "xrayTraceId"),
    }
    assert text.count("$") == text.count("$context.")  # so no $input, no $stageVariables
    for settings in RESOURCES["Api"]["Properties"]["MethodSettings"]:
        assert not settings.get("DataTraceEnabled")  # which would write bodies


def test_no_queue_of_failures_but_the_callers_own_calls_gets_a_request() -> None:
    """Lambda's records of failed invokes hold the whole request; a source's name only where it was."""
    destinations = {
        name: properties["EventInvokeConfig"]["DestinationConfig"]["OnFailure"]["Destination"]["Fn::GetAtt"][
            0
        ]
        for name, properties in FUNCTIONS.items()
        if "DestinationConfig" in properties.get("EventInvokeConfig", {})
    }
    assert destinations == {
        **dict.fromkeys(MODEL_CALLERS, "ReportFailureFunction"),
        **dict.fromkeys(("IndexPromptFunction", "ReconcileFunction"), "IndexFailures"),
    }
    redriven = {
        name: queue["RedrivePolicy"]["deadLetterTargetArn"]["Fn::GetAtt"][0]
        for name, queue in of_type("AWS::SQS::Queue").items()
        if "RedrivePolicy" in queue
    }
    assert redriven == {"CallQueue": "CallDeadLetters", "UsageQueue": "UsageDeadLetters"}
    assert {s["EventSourceArn"]["Fn::GetAtt"][0] for s in SOURCES.values()} == {"UsageTable", *redriven}
