"""Deploys template.yaml to the emulator with CloudFormation, as `sam deploy` would."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import httpx2

from cfn_yaml import load_template
from local_aws import artefacts
from local_aws.emulator import Emulator

if TYPE_CHECKING:
    from httpx2 import Response
    from mypy_boto3_lambda import LambdaClient
    from mypy_boto3_logs import CloudWatchLogsClient
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sqs import SQSClient

STACK_NAME = "llm-gateway"
_ARTEFACT_BUCKET = "llm-gateway-artefacts"
_REQUEST_TIMEOUT_S = 130.0
_FINISHED = ("COMPLETE", "FAILED")


@dataclass(frozen=True, slots=True)
class Stack:
    """The deployed gateway.

    Attributes:
        emulator: Where it runs.
        outputs: The stack's outputs.
        api_key: What callers send as `x-api-key`.
    """

    emulator: Emulator
    outputs: Mapping[str, str]
    api_key: str

    @property
    def api_url(self) -> str:
        """Base of the API's paths on the emulator."""
        return f"{self.emulator.endpoint}/_aws/execute-api/{self.outputs['ApiId']}/local"

    def request(
        self, method: str, path: str, *, body: object = None, key: bool = True, **headers: str
    ) -> Response:
        """One HTTP request to the API; `body` is sent as JSON, bytes as they are."""
        sent = {"content-type": "application/json", **({"x-api-key": self.api_key} if key else {}), **headers}
        content = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
        url = f"{self.api_url}{path}"
        return httpx2.request(method, url, content=content, headers=sent, timeout=_REQUEST_TIMEOUT_S)

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
    packaged = _packaged(template, emulator, artefacts.build(template, tell))
    tell("creating the stack")
    cloudformation = boto3.client("cloudformation", **emulator.client_arguments)  # type: ignore[call-overload]
    values = {**_local_parameters(), **parameters}
    cloudformation.create_stack(
        StackName=STACK_NAME,
        TemplateBody=json.dumps(packaged),
        Capabilities=["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"],
        Parameters=[{"ParameterKey": name, "ParameterValue": value} for name, value in values.items()],
    )
    outputs = _wait_for_outputs(cloudformation)
    gateway = boto3.client("apigateway", **emulator.client_arguments)  # type: ignore[call-overload]
    key = gateway.get_api_key(apiKey=outputs["ApiKeyId"], includeValue=True)["value"]
    return Stack(emulator=emulator, outputs=outputs, api_key=key)


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


def _packaged(template: dict[str, Any], emulator: Emulator, built: Mapping[str, Path]) -> dict[str, Any]:
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
