"""An SQS queue that results are sent to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llm_gateway.adapters.aws.sdk import ask

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient


class SqsQueue:
    """See ResultQueue."""

    def __init__(self, client: SQSClient, url: str) -> None:
        self._client = client
        self._url = url

    async def send(self, body: str) -> None:
        """See ResultQueue.send."""
        await ask(self._client.send_message, QueueUrl=self._url, MessageBody=body)
