"""Idempotency keys and the outcomes of their calls, in a DynamoDB table of their own.

The table holds answers, so it is encrypted, forgets by TTL and has no backups. Items outlive their TTL
for a while; every condition looks at the time itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from llm_gateway.adapters.aws.sdk import Refused, ask
from llm_gateway.calls.idempotency import Claim, Earlier

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

_UNKNOWN = "attribute_not_exists(pk)"
_FORGOTTEN = "expires_at <= :now"
_DEAD = "(attribute_not_exists(ended) AND held_until <= :now)"
_OURS = "holder = :holder"


class DynamoOutcomes:
    """See OutcomeStore."""

    def __init__(self, client: DynamoDBClient, table: str) -> None:
        self._client = client
        self._table = table

    async def claim(self, claim: Claim, now: datetime, *, take_over: bool) -> Earlier | None:
        """See OutcomeStore.claim."""
        free = [_UNKNOWN, _FORGOTTEN, *([_DEAD] if take_over else [])]
        try:
            await ask(
                self._client.put_item,
                TableName=self._table,
                Item={
                    "pk": {"S": claim.key},
                    "request": {"S": claim.request},
                    "holder": {"S": claim.holder},
                    "held_until": _seconds(claim.held_until),
                    "expires_at": _seconds(claim.expires_at),
                },
                ConditionExpression=" OR ".join(free),
                ExpressionAttributeValues={":now": _seconds(now)},
                ReturnValuesOnConditionCheckFailure="ALL_OLD",
            )
        except Refused as refusal:
            return _earlier(refusal.item)
        return None

    async def end(self, claim: Claim, outcome: bytes | None) -> None:
        """See OutcomeStore.end."""
        kept: dict[str, Any] = {} if outcome is None else {":outcome": {"B": outcome}}
        await self._if_ours(
            self._client.update_item,
            claim,
            UpdateExpression="SET ended = :true" + (", outcome = :outcome" if kept else ""),
            values={":true": {"BOOL": True}, **kept},
        )

    async def release(self, claim: Claim) -> None:
        """See OutcomeStore.release."""
        await self._if_ours(self._client.delete_item, claim, values={})

    async def _if_ours(self, operation: Any, claim: Claim, values: Mapping[str, Any], **more: Any) -> None:
        try:
            await ask(
                operation,
                TableName=self._table,
                Key={"pk": {"S": claim.key}},
                ConditionExpression=_OURS,
                ExpressionAttributeValues={":holder": {"S": claim.holder}, **values},
                **more,
            )
        except Refused:
            return  # taken over: whoever did that settles it


def _earlier(item: Mapping[str, Any]) -> Earlier:
    return Earlier(
        request=item["request"]["S"],
        held_until=datetime.fromtimestamp(float(item["held_until"]["N"]), UTC),
        ended="ended" in item,
        outcome=item["outcome"]["B"] if "outcome" in item else None,
    )


def _seconds(moment: datetime) -> Any:
    return {"N": f"{moment.timestamp():.3f}"}
