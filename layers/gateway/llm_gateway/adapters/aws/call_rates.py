"""How many calls each key made in this minute of the clock, in the table of budgets."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from llm_gateway.access.caller import Caller
from llm_gateway.access.errors import CallRateExceeded
from llm_gateway.adapters.aws.sdk import Refused, ask

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

_KEPT = timedelta(hours=1)


class DynamoCallRates:
    """One item for each key and minute; see CallRates.

    Args:
        client: Of DynamoDB.
        table: The table of budgets.
        now: Aware UTC.
    """

    def __init__(self, client: DynamoDBClient, table: str, now: Callable[[], datetime]) -> None:
        self._client = client
        self._table = table
        self._now = now

    async def take(self, caller: Caller) -> None:
        """See CallRates.take."""
        most, now = caller.scopes.calls_per_minute, self._now()
        if most is None:
            return
        try:
            await ask(
                self._client.update_item,
                TableName=self._table,
                Key={"pk": {"S": f"rate#{caller.key_id}"}, "sk": {"S": f"{now:%Y-%m-%dT%H:%M}"}},
                UpdateExpression="ADD calls :one SET expires_at = :expires",
                ConditionExpression="attribute_not_exists(calls) OR calls < :most",
                ExpressionAttributeValues={
                    ":one": {"N": "1"},
                    ":most": {"N": str(most)},
                    ":expires": {"N": str(int((now + _KEPT).timestamp()))},
                },
            )
        except Refused:
            raise CallRateExceeded(most, now) from None
