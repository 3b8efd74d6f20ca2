"""A version of call_prompt that is about to get traffic, and who waits for a verdict on it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal

from llm_gateway.adapters.aws.sdk import ask

if TYPE_CHECKING:
    from mypy_boto3_codedeploy import CodeDeployClient
    from mypy_boto3_lambda import LambdaClient


class CheckedVersion:
    """Calls the version, and tells CodeDeploy.

    Args:
        functions: Gives a client of Lambda.
        deployments: Gives a client of CodeDeploy.
        name: ARN of the version.
    """

    def __init__(
        self,
        functions: Callable[[], LambdaClient],
        deployments: Callable[[], CodeDeployClient],
        name: str,
    ) -> None:
        self._functions = functions
        self._deployments = deployments
        self._name = name

    async def invoke(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        """The version's answer to a request.

        Raises:
            ValueError: What came is no answer, for example a crash's report.
            StoreUnavailable: It could not be invoked.
        """
        payload = json.dumps(request)
        done = await ask(self._functions().invoke, FunctionName=self._name, Payload=payload)
        answer = json.loads(done["Payload"].read())
        if not isinstance(answer, dict) or not ({"text", "error"} & answer.keys()):
            raise ValueError("not an answer")
        return answer

    async def report(self, deployment_id: str, hook_id: str, verdict: Literal["Succeeded", "Failed"]) -> None:
        """Tell whether to go on."""
        await ask(
            self._deployments().put_lifecycle_event_hook_execution_status,
            deploymentId=deployment_id,
            lifecycleEventHookExecutionId=hook_id,
            status=verdict,
        )
