"""Records on their way to a ledger that did not take them, in an SQS queue."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from llm_gateway.adapters.aws.ledger import ledger_item, record_of
from llm_gateway.adapters.aws.sdk import ask

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

    from llm_gateway.usage.record import UsageRecord


class SqsUsageQueue:
    """Keeps records until they are drained; see UsageLedger."""

    def __init__(self, client: SQSClient, url: str) -> None:
        self._client = client
        self._url = url

    async def record(self, record: UsageRecord) -> None:
        """See UsageLedger.record; a second one with the same call id is drained into the same item."""
        await ask(self._client.send_message, QueueUrl=self._url, MessageBody=to_message(record))


def to_message(record: UsageRecord) -> str:
    """A record as the body of a message: its ledger item, in DynamoDB's JSON."""
    return json.dumps(ledger_item(record, record.started_at))


def from_message(body: str) -> UsageRecord:
    """A record back from a message.

    Raises:
        ValueError: The message holds none.
    """
    try:
        return record_of(json.loads(body))
    except (ValueError, AttributeError, TypeError) as error:
        raise ValueError("The message holds no record.") from error
