"""Deploys template.yaml to the emulator with CloudFormation, as `sam deploy` would."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import httpx2

from cfn_yaml import load_template
from llm_gateway.access.caller import Scopes
from llm_gateway.access.keys import Keys
from llm_gateway.adapters.aws.keys import DynamoKeys
from llm_gateway.adapters.aws.secrets import SecretPepper
from local_aws import artefacts
from local_aws.emulator import Emulator

if TYPE_CHECKING:
    from httpx2 import Response
    from mypy_boto3_lambda import LambdaClient
    from mypy_boto3_logs import CloudWatchLogsClient
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sqs import SQSClient

STACK_NAME = "llm-gateway"
OPERATORS = "operators"
"""The service whose key sees the usage of all."""

_ARTEFACT_BUCKET = "llm-gateway-artefacts"
_REQUEST_TIMEOUT_S = 130.0
_FINISHED = ("COMPLETE", "FAILED")


@dataclass(frozen=True, slots=True)
class Stack:
    """The deployed gateway.

    Attributes:
        emulator: Where it runs.
        outputs: The stack's outputs.
        keys: A gateway key of each service that has called so far.
    """

    emulator: Emulator
    outputs: Mapping[str, str]
    keys: dict[str, str] = field(default_factory=dict)

    @property
    def api_url(self) -> str:
        """Base of the API's paths on the emulator."""
        return f"{self.emulator.endpoint}/_aws/execute-api/{self.outputs['ApiId']}/local"

    def request(
        self, method: str, path: str, *, body: object = None, key: str | None = None, **headers: str
    ) -> Response:
        """One HTTP request to the API; `body` is sent as JSON, bytes as they are.

        It comes with the key of the calling service that the body names, or the operators' if it names
        none; with `key` instead, if given, and with none if that is empty.
        """
        service = body.get("calling_service", OPERATORS) if isinstance(body, dict) else OPERATORS
        text = self.key_of(str(service)) if key is None else key
        sent = {"content-type": "application/json", **({"authorization": f"Bearer {text}"} if text else {})}
        sent |= headers
        content = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
        url = f"{self.api_url}{path}"
        return httpx2.request(method, url, content=content, headers=sent, timeout=_REQUEST_TIMEOUT_S)

    def key_of(self, service: str) -> str:
        """A key of the service, made when it is first asked for."""
        if service not in self.keys:
            self.keys[service] = self.create_key(service, Scopes(all_usage=service == OPERATORS))
        return self.keys[service]

    def create_key(self, service: str, scopes: Scopes) -> str:
        """A new gateway key, as `llm-gateway keys create` makes it."""
        text, _ = asyncio.run(self.gateway_keys.create(service, scopes, "local"))
        return text

    @property
    def gateway_keys(self) -> Keys:
        """The stack's keys, to make and to end."""
        arguments = self.emulator.client_arguments
        table = DynamoKeys(boto3.client("dynamodb", **arguments), self.outputs["KeyTableName"])  # type: ignore[call-overload]
        secrets = boto3.client("secretsmanager", **arguments)  # type: ignore[call-overload]
        return Keys(
            table, SecretPepper(lambda: secrets, self.outputs["KeyPepperArn"]), lambda: datetime.now(UTC)
        )

    def invoke(self, payload: object) -> dict[str, Any]:
        """A direct, synchronous invoke of call_prompt."""
        answer = self.functions.invoke(
            FunctionName=self.outputs["CallPromptFunctionName"], Payload=json.dumps(payload)
        )
        result: dict[str, Any] = json.loads(answer["Payload"].read())
        return result

    def invoke_async(self, payload: object) -> None:
        """An asynchronous invoke; the result goes to a queue."""
        self.functions.invoke(
            FunctionName=self.outputs["CallPromptAsyncFunctionName"],
            InvocationType="Event",
            Payload=json.dumps(payload),
        )

    def queue_call(self, request: object) -> None:
        """Put a call into the queue; the result goes to another one."""
        self.sqs.send_message(QueueUrl=self.outputs["CallQueueUrl"], MessageBody=json.dumps(request))

    def results(self, output: str = "CallAnswersUrl") -> list[dict[str, Any]]:
        """Results that are waiting in a queue, which are taken out of it."""
        url = self.outputs[output]
        messages = self.sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", [])
        for message in messages:
            self.sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
        return [json.loads(message["Body"]) for message in messages]

    def settings_of(self, function: str) -> dict[str, str]:
        """The variables of a function, by its name or the ARN of its alias."""
        found = self.functions.get_function_configuration(FunctionName=function)
        return dict(found["Environment"]["Variables"])

    @contextmanager
    def settings(self, function: str, **variables: str) -> Iterator[None]:
        """Run a function with other variables for a while, as a deployment would give them to it."""
        before = self.settings_of(function)
        self._set(function, {**before, **variables})
        try:
            yield
        finally:
            self._set(function, before)

    def _set(self, function: str, variables: Mapping[str, str]) -> None:
        name, alias = function, ""
        if function.startswith("arn:"):
            *_, name, alias = function.split(":")
        self.functions.update_function_configuration(FunctionName=name, Environment={"Variables": variables})
        if alias:
            version = self.functions.publish_version(FunctionName=name)["Version"]
            self.functions.update_alias(FunctionName=name, Name=alias, FunctionVersion=version)

    @property
    def command_environment(self) -> dict[str, str]:
        """What makes the author's command line work on this stack."""
        arguments = self.emulator.client_arguments
        return {
            "AWS_ENDPOINT_URL": str(arguments["endpoint_url"]),
            "AWS_DEFAULT_REGION": str(arguments["region_name"]),
            "AWS_ACCESS_KEY_ID": str(arguments["aws_access_key_id"]),
            "AWS_SECRET_ACCESS_KEY": str(arguments["aws_secret_access_key"]),
            "LLM_GATEWAY_PROMPT_BUCKET": self.outputs["PromptBucketName"],
            "LLM_GATEWAY_PROMPT_TABLE": self.outputs["PromptTableName"],
            "LLM_GATEWAY_USAGE_TABLE": self.outputs["UsageTableName"],
            "LLM_GATEWAY_KEY_TABLE": self.outputs["KeyTableName"],
            "LLM_GATEWAY_KEY_PEPPER_ARN": self.outputs["KeyPepperArn"],
        }

    @property
    def s3(self) -> S3Client:
        """A client of the emulator's S3."""
        return boto3.client("s3", **self.emulator.client_arguments)  # type: ignore[call-overload, no-any-return]

    @property
    def sqs(self) -> SQSClient:
        """A client of the emulator's SQS."""
        return boto3.client("sqs", **self.emulator.client_arguments)  # type: ignore[call-overload, no-any-return]

    @property
    def functions(self) -> LambdaClient:
        """A client of the emulator's Lambda."""
        return boto3.client("lambda", **self.emulator.client_arguments)  # type: ignore[call-overload, no-any-return]

    @property
    def logs(self) -> CloudWatchLogsClient:
        """A client of the emulator's CloudWatch Logs."""
        return boto3.client("logs", **self.emulator.client_arguments)  # type: ignore[call-overload, no-any-return]

    def upload(self, key: str, body: bytes) -> str:
        """Upload one prompt file; returns its version."""
        answer = self.s3.put_object(Bucket=self.outputs["PromptBucketName"], Key=key, Body=body)
        return answer["VersionId"]

    def log_lines(self, output: str = "CallPromptLogGroup") -> Iterator[dict[str, Any]]:
        """The structured lines of a function's log so far."""
        group = self.outputs[output]
        for page in self.logs.get_paginator("filter_log_events").paginate(logGroupName=group):
            for event in page["events"]:
                try:
                    line = json.loads(event["message"])
                except ValueError:
                    continue
                if isinstance(line, dict):
                    yield line


def deploy(emulator: Emulator, tell: Callable[[str], None] = lambda _: None, **parameters: str) -> Stack:
    """Build, upload and create the stack.

    Args:
        emulator: Where to.
        tell: Told of each step that takes a while.
        parameters: Values of the template's parameters, over those of a local deployment.

    Raises:
        RuntimeError: The stack could not be created; says which resource and why.
    """
    template = load_template()
    packaged = packaged_template(template, emulator, artefacts.build(template, tell))
    tell("creating the stack")
    cloudformation = boto3.client("cloudformation", **emulator.client_arguments)  # type: ignore[call-overload]
    values = {**_local_parameters(), **parameters}
    for name, value in values.items():  # the emulator translates with the defaults, whatever is given
        packaged["Parameters"][name]["Default"] = value
    cloudformation.create_stack(
        StackName=STACK_NAME,
        TemplateURL=uploaded(packaged, emulator),
        Capabilities=["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"],
        Parameters=[{"ParameterKey": name, "ParameterValue": value} for name, value in values.items()],
    )
    stack = Stack(emulator=emulator, outputs=_wait_for_outputs(cloudformation))
    _complete_api(stack, template, by_iam=values.get("Authentication") == "AWS_IAM")
    return stack


def _complete_api(stack: Stack, template: Mapping[str, Any], *, by_iam: bool) -> None:
    """What the emulator does not take from the API's definition: its own errors, and the method ANY."""
    gateway = boto3.client("apigateway", **stack.emulator.client_arguments)  # type: ignore[call-overload]
    api = stack.outputs["ApiId"]
    body = template["Resources"]["Api"]["Properties"]["DefinitionBody"]
    for kind, response in body["x-amazon-apigateway-gateway-responses"].items():
        gateway.put_gateway_response(restApiId=api, responseType=kind, **_chosen(response, by_iam=by_iam))
    for resource in gateway.get_resources(restApiId=api, limit=500)["items"]:
        if "x-amazon-apigateway-any-method" in body["paths"].get(resource["path"], {}):
            _put_any_method(gateway, api, resource)
    gateway.create_deployment(restApiId=api, stageName="local")


def _chosen(value: Any, *, by_iam: bool) -> Any:
    """A gateway response with its conditions decided, and with what the emulator does not fill in."""
    match value:
        case {"Fn::If": ["AccessByIam", then, otherwise]}:
            return _chosen(then if by_iam else otherwise, by_iam=by_iam)
        case dict():
            return {name: _chosen(inner, by_iam=by_iam) for name, inner in value.items()}
        case str():
            message = "Send a valid gateway key as 'Authorization: Bearer lgw_...'."
            filled = value.replace("$context.authorizer.code", "unauthorized")
            return filled.replace("$context.authorizer.message", message)
    return value


def _put_any_method(gateway: Any, api: str, resource: Mapping[str, Any]) -> None:
    """The other methods of a resource, answered and guarded as the one that it has."""
    place = {"restApiId": api, "resourceId": resource["id"]}
    [known] = resource["resourceMethods"]
    method = gateway.get_method(**place, httpMethod=known)
    guard = {"authorizerId": method["authorizerId"]} if method.get("authorizerId") else {}
    gateway.put_method(**place, httpMethod="ANY", authorizationType=method["authorizationType"], **guard)
    gateway.put_integration(
        **place,
        httpMethod="ANY",
        type="AWS_PROXY",
        integrationHttpMethod="POST",
        uri=method["methodIntegration"]["uri"],
    )


def put_openai_key(stack: Stack, key: str) -> None:
    """Put the vendor's key into the stack's secret, as an operator does after a first deployment."""
    secrets = boto3.client("secretsmanager", **stack.emulator.client_arguments)  # type: ignore[call-overload]
    secrets.put_secret_value(SecretId=stack.outputs["OpenAIKeyArn"], SecretString=key)


def _local_parameters() -> dict[str, str]:
    runtimes = load_template()["Parameters"]["Runtime"]["AllowedValues"]
    runtime = f"python{artefacts.interpreter_version()}"
    return {
        "Environment": "local",
        "Architecture": artefacts.architecture(),
        # The emulator runs its own interpreter whatever the runtime's name says.
        "Runtime": runtime if runtime in runtimes else runtimes[-1],
        "TestMode": "true",
    }


def packaged_template(
    template: dict[str, Any], emulator: Emulator, built: Mapping[str, Path]
) -> dict[str, Any]:
    """The template with every local folder replaced by an uploaded zip."""
    s3 = boto3.client("s3", **emulator.client_arguments)  # type: ignore[call-overload]
    s3.create_bucket(Bucket=_ARTEFACT_BUCKET)
    packaged = deepcopy(template)
    for name, folder in built.items():
        body = artefacts.zipped(folder)
        key = f"{hashlib.sha256(body).hexdigest()}.zip"
        s3.put_object(Bucket=_ARTEFACT_BUCKET, Key=key, Body=body)
        resource = packaged["Resources"][name]
        source = artefacts.source_property(resource)
        resource["Properties"][source] = {"Bucket": _ARTEFACT_BUCKET, "Key": key}
        resource.pop("Metadata", None)
    return packaged


def uploaded(template: Mapping[str, Any], emulator: Emulator) -> str:
    """Where CloudFormation finds the template, which is too long for a request."""
    s3 = boto3.client("s3", **emulator.client_arguments)  # type: ignore[call-overload]
    s3.put_object(Bucket=_ARTEFACT_BUCKET, Key="template.json", Body=json.dumps(template).encode())
    return f"{emulator.endpoint}/{_ARTEFACT_BUCKET}/template.json"


def _wait_for_outputs(cloudformation: Any) -> dict[str, str]:
    while True:
        stack = cloudformation.describe_stacks(StackName=STACK_NAME)["Stacks"][0]
        if stack["StackStatus"].endswith(_FINISHED):
            break
        time.sleep(0.1)
    if stack["StackStatus"] != "CREATE_COMPLETE":
        events = cloudformation.describe_stack_events(StackName=STACK_NAME)["StackEvents"]
        failed = [e for e in events if e["ResourceStatus"].endswith("FAILED")]
        reasons = "\n".join(f"{e['LogicalResourceId']}: {e.get('ResourceStatusReason')}" for e in failed)
        raise RuntimeError(f"The stack could not be created:\n{reasons}")
    return {output["OutputKey"]: output["OutputValue"] for output in stack["Outputs"]}
