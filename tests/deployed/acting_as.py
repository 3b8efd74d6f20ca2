"""Acting as a role on the local AWS: what it may do is tried, operation by operation, for real."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

from local_aws.stack import STACK_NAME, Stack

DENIED = {"AccessDenied", "AccessDeniedException", "AuthorizationError", "AuthorizationErrorException"}
TABLES = ("PromptTable", "UsageTable", "BudgetTable", "KeyTable", "OutcomeTable")
SECRETS = ("OpenAIKey", "KeyPepper")
OTHER_BUCKET = "another-bucket"
OTHER_BUS = "another-bus"
PATH = "permissions/tried.md"

Operation = Callable[["Role"], object]


@dataclass(frozen=True, slots=True)
class Role:
    """Somebody with credentials of their own.

    Attributes:
        arguments: What a client needs.
        clients: Those made so far.
    """

    arguments: Mapping[str, str]
    clients: dict[str, Any] = field(default_factory=dict)

    def client(self, service: str) -> Any:
        """A client that asks once."""
        if service not in self.clients:
            once = Config(retries={"total_max_attempts": 1})
            self.clients[service] = boto3.client(service, config=once, **self.arguments)  # type: ignore[call-overload]
        return self.clients[service]

    def may(self, operation: Operation) -> bool:
        """False if it is denied; what else is wrong is told only to those who may ask."""
        try:
            operation(self)
        except ClientError as error:
            return error.response["Error"]["Code"] not in DENIED
        return True


def administrator(stack: Stack) -> Role:
    """Who deployed the stack."""
    return Role(stack.emulator.client_arguments)


def make_neighbours(stack: Stack, *buses: str) -> None:
    """What lies beside the stack: another bucket, and buses."""
    admin = administrator(stack)
    admin.client("s3").create_bucket(Bucket=OTHER_BUCKET)
    for bus in (OTHER_BUS, *buses):
        admin.client("events").create_event_bus(Name=bus)


def assume(stack: Stack, arn: str) -> Role:
    """Somebody in the role."""
    sts = administrator(stack).client("sts")
    given = sts.assume_role(RoleArn=arn, RoleSessionName="permissions")["Credentials"]
    return Role(
        {
            **stack.emulator.client_arguments,
            "aws_access_key_id": given["AccessKeyId"],
            "aws_secret_access_key": given["SecretAccessKey"],
            "aws_session_token": given["SessionToken"],
        }
    )


def user(stack: Stack, name: str, *policies: str, inline: Mapping[str, Any] | None = None) -> Role:
    """A new user with these managed policies, and this statement."""
    iam = administrator(stack).client("iam")
    iam.create_user(UserName=name)
    for arn in policies:
        iam.attach_user_policy(UserName=name, PolicyArn=arn)
    if inline is not None:
        document = json.dumps({"Version": "2012-10-17", "Statement": [inline]})
        iam.put_user_policy(UserName=name, PolicyName="inline", PolicyDocument=document)
    key = iam.create_access_key(UserName=name)["AccessKey"]
    return Role(
        {
            **stack.emulator.client_arguments,
            "aws_access_key_id": key["AccessKeyId"],
            "aws_secret_access_key": key["SecretAccessKey"],
        }
    )


@dataclass(frozen=True, slots=True)
class Resources:
    """What the stack consists of.

    Attributes:
        names: The physical name of each resource.
        types: Its type.
        roles: The ARN of each function's role.
        functions: The ARN of each function.
    """

    names: Mapping[str, str]
    types: Mapping[str, str]
    roles: Mapping[str, str]
    functions: Mapping[str, str]

    @classmethod
    def of(cls, stack: Stack) -> Resources:
        """Asked of CloudFormation and Lambda."""
        admin = administrator(stack)
        listed = admin.client("cloudformation").describe_stack_resources(StackName=STACK_NAME)
        found = listed["StackResources"]
        names = {r["LogicalResourceId"]: r["PhysicalResourceId"] for r in found}
        types = {r["LogicalResourceId"]: r["ResourceType"] for r in found}
        configurations = {
            name: admin.client("lambda").get_function_configuration(FunctionName=names[name])
            for name, kind in types.items()
            if kind == "AWS::Lambda::Function"
        }
        return cls(
            names=names,
            types=types,
            roles={name: c["Role"] for name, c in configurations.items()},
            functions={name: c["FunctionArn"] for name, c in configurations.items()},
        )

    def of_type(self, kind: str) -> list[str]:
        """Names in the template."""
        return sorted(name for name, found in self.types.items() if found == kind)


def operations(resources: Resources, bus: str) -> dict[str, Operation]:
    """Every operation that is tried, as `resource:operation`.

    Args:
        resources: On what.
        bus: The stack's own bus of usage.
    """
    found = dict(_on_buckets(resources.names["PromptBucket"]))
    for table in TABLES:
        found.update(_on_table(table, resources))
    for secret in SECRETS:
        found.update(_on_secret(secret, resources.names[secret]))
    for queue in resources.of_type("AWS::SQS::Queue"):
        found.update(_on_queue(queue, resources.names[queue]))
    for function, arn in resources.functions.items():
        found[f"{function}:invoke"] = _invoke(arn)
    for name, target in {"default bus": "default", "usage bus": bus, "another bus": OTHER_BUS}.items():
        found[f"{name}:put"] = _put_event(target)
    for version in resources.of_type("AWS::Lambda::Version"):
        found["new version:invoke"] = _invoke(resources.names[version])
    for group in ("CallPromptLogs", "AuthorizeLogs"):
        found[f"{group}:read"] = _read_log(resources.names[group])
    found["users:create"] = lambda role: role.client("iam").create_user(UserName="tried")
    found["stack:describe"] = lambda role: role.client("cloudformation").describe_stacks(StackName=STACK_NAME)
    return found


def _on_buckets(bucket: str) -> Iterator[tuple[str, Operation]]:
    def s3(name: str, **arguments: Any) -> Operation:
        return lambda role: getattr(role.client("s3"), name)(**arguments)

    for label, where in (("prompts", bucket), ("another bucket", OTHER_BUCKET)):
        thing = {"Bucket": where, "Key": PATH}
        yield f"{label}:read", s3("get_object", **thing)
        yield f"{label}:read version", s3("get_object", **thing, VersionId="none")
        yield f"{label}:list", s3("list_objects_v2", Bucket=where)
        yield f"{label}:list versions", s3("list_object_versions", Bucket=where)
        yield f"{label}:write", s3("put_object", **thing, Body=b"Tried.")
        yield f"{label}:delete", s3("delete_object", **thing)
        yield f"{label}:delete version", s3("delete_object", **thing, VersionId="none")
        yield (
            f"{label}:change versioning",
            s3("put_bucket_versioning", Bucket=where, VersioningConfiguration={"Status": "Enabled"}),
        )


def _on_table(table: str, resources: Resources) -> Iterator[tuple[str, Operation]]:
    names = {"KeyTable": ["key_id"], "OutcomeTable": ["pk"]}.get(table, ["pk", "sk"])
    key = {name: {"S": "tried"} for name in names}
    where = {"TableName": resources.names[table]}
    values = {":v": {"S": "tried"}}
    asked = {"KeyConditionExpression": f"{names[0]} = :v", "ExpressionAttributeValues": values}

    def dynamodb(name: str, **arguments: Any) -> Operation:
        return lambda role: getattr(role.client("dynamodb"), name)(**where, **arguments)

    yield f"{table}:get", dynamodb("get_item", Key=key)
    yield f"{table}:query", dynamodb("query", **asked)
    yield f"{table}:scan", dynamodb("scan", Limit=1)
    yield f"{table}:put", dynamodb("put_item", Item=key)
    changed = {"UpdateExpression": "SET note = :v", "ExpressionAttributeValues": values}
    yield f"{table}:update", dynamodb("update_item", Key=key, **changed)
    yield f"{table}:delete", dynamodb("delete_item", Key=key)
    yield f"{table}:unprotect", dynamodb("update_table", DeletionProtectionEnabled=False)


def _on_secret(secret: str, arn: str) -> Iterator[tuple[str, Operation]]:
    def read(role: Role) -> object:
        return role.client("secretsmanager").get_secret_value(SecretId=arn)

    def put(role: Role) -> object:
        return role.client("secretsmanager").put_secret_value(SecretId=arn, SecretString="tried")

    yield f"{secret}:read", read
    yield f"{secret}:put", put


def _on_queue(queue: str, url: str) -> Iterator[tuple[str, Operation]]:
    def send(role: Role) -> object:
        return role.client("sqs").send_message(QueueUrl=url, MessageBody="{}")

    def receive(role: Role) -> object:
        return role.client("sqs").receive_message(QueueUrl=url, VisibilityTimeout=0)

    def delete(role: Role) -> object:
        return role.client("sqs").delete_message(QueueUrl=url, ReceiptHandle="tried")

    def purge(role: Role) -> object:
        return role.client("sqs").purge_queue(QueueUrl=url)

    yield f"{queue}:send", send
    yield f"{queue}:receive", receive
    yield f"{queue}:delete", delete
    yield f"{queue}:purge", purge


def _invoke(arn: str) -> Operation:
    return lambda role: role.client("lambda").invoke(FunctionName=arn, InvocationType="DryRun")


def _read_log(group: str) -> Operation:
    return lambda role: role.client("logs").filter_log_events(logGroupName=group, limit=1)


def _put_event(bus: str) -> Operation:
    entry = {"Source": "tried", "DetailType": "tried", "Detail": "{}", "EventBusName": bus}
    return lambda role: role.client("events").put_events(Entries=[entry])
