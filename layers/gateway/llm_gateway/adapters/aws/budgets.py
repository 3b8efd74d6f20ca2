"""Budgets in a DynamoDB table of their own: one item for each budget and month.

A day lies in one month, so one conditional update covers both windows and nothing needs a transaction.
The item's attributes:

- `used#<window>#<unit>`: what is spent and held, in the month (`month`) and in each of its days (`24`);
- `hold#<holder>`: a hold, as a map; of a holder that was taken for dead, only its time. That is how a late
  settlement of it is told from a repeated one;
- `told#<window>#<unit>#<percent>`: a threshold that was told of.

A hold is some 120 bytes of the item's 400 KB, so a budget has room for about 3,000 calls at a time.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from llm_gateway.adapters.aws.sdk import Refused, ask
from llm_gateway.budgets.holds import THRESHOLDS, Hold, Mark, Standing
from llm_gateway.budgets.limits import Amount, Limits, Unit, Width, resets_at

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

_WIDTHS: tuple[Width, ...] = ("day", "month")
_UNITS: tuple[Unit, ...] = ("usd", "tokens")
_KEPT = timedelta(days=62)  # after the end of the month
_REMEMBERED_S = 3_600  # a holder that was taken for dead; no function lives so long
_SWEPT_AT_ONCE = 40  # an expression has 4 KB
_DEAD_AT_MOST = 20  # more of them are not left lying in the item

Item = Mapping[str, Any]


class DynamoBudgets:
    """See BudgetStore."""

    def __init__(self, client: DynamoDBClient, table: str) -> None:
        self._client = client
        self._table = table

    async def reserve(self, hold: Hold, limits: Limits, now: datetime) -> Standing:
        """See BudgetStore.reserve."""
        while True:
            try:
                item = await self._reserve(hold, limits)
            except Refused as refusal:
                item = refusal.item
                dead = _dead(item, now)
                if _holds(item, hold) or not dead:
                    return _standing(item, hold)
                await self._sweep(hold, item, dead, now)
                continue
            dead = _dead(item, now)
            if len(dead) > _DEAD_AT_MOST:
                await self._sweep(hold, item, dead, now)
            return _standing(item, hold)

    async def settle(self, hold: Hold, spent: Amount) -> Standing:
        """See BudgetStore.settle."""
        rest = Amount(spent.usd - hold.most.usd, spent.tokens - hold.most.tokens)
        try:
            return _standing(await self._settle(hold, rest, "attribute_type(#hold, :map)", ":map", "M"), hold)
        except Refused as refusal:
            if _name(hold) not in refusal.item:
                return _standing(refusal.item, hold)  # settled before
        try:
            return _standing(await self._settle(hold, spent, "attribute_type(#hold, :n)", ":n", "N"), hold)
        except Refused as refusal:
            return _standing(refusal.item, hold)

    async def mark(self, hold: Hold, mark: Mark) -> bool:
        """See BudgetStore.mark."""
        try:
            await self._update(
                hold,
                UpdateExpression="SET #told = :true",
                ConditionExpression="attribute_not_exists(#told)",
                ExpressionAttributeNames={"#told": _told(hold, mark)},
                ExpressionAttributeValues={":true": {"BOOL": True}},
            )
        except Refused:
            return False
        return True

    async def _reserve(self, hold: Hold, limits: Limits) -> Item:
        names, values, added = _additions(hold, hold.most)
        conditions = ["attribute_not_exists(#hold)"]
        for limit in limits:
            used, room = f"#{limit.width}_{limit.unit}", f":{limit.width}_{limit.unit}_room"
            conditions.append(f"(attribute_not_exists({used}) OR {used} <= {room})")
            values[room] = _number(limit.most - hold.most.of(limit.unit))
        expires = resets_at("month", hold.moment) + _KEPT
        return await self._update(
            hold,
            UpdateExpression=f"ADD {added} SET #hold = :hold, expires_at = :expires",
            ConditionExpression=" AND ".join(conditions),
            ExpressionAttributeNames={**names, "#hold": _name(hold)},
            ExpressionAttributeValues={
                **values,
                ":hold": {"M": _hold_item(hold)},
                ":expires": _number(int(expires.timestamp())),
            },
        )

    async def _settle(self, hold: Hold, added: Amount, condition: str, value: str, kind: str) -> Item:
        names, values, addition = _additions(hold, added)
        return await self._update(
            hold,
            UpdateExpression=f"ADD {addition} REMOVE #hold",
            ConditionExpression=condition,
            ExpressionAttributeNames={**names, "#hold": _name(hold)},
            ExpressionAttributeValues={**values, value: {"S": kind}},
        )

    async def _sweep(self, hold: Hold, item: Item, dead: Sequence[str], now: datetime) -> None:
        """Give back what dead holders hold; whoever does it first does it for all."""
        swept = dead[:_SWEPT_AT_ONCE]
        back: defaultdict[str, Decimal] = defaultdict(Decimal)
        for name in swept:
            held = item[name]["M"]
            for window in (held["day"]["S"], "month"):
                for unit in _UNITS:
                    back[f"used#{window}#{unit}"] -= Decimal(held[unit]["N"])
        names = {f"#h{n}": name for n, name in enumerate(swept)}
        sums = {f"#u{n}": name for n, name in enumerate(back)}
        changes = [f"ADD {', '.join(f'{u} :{u[1:]}' for u in sums)}"]
        changes.append(f"SET {', '.join(f'{h} = :{h[1:]}' for h in names)}")
        forgotten = {f"#f{n}": name for n, name in enumerate(_forgettable(item, now))}
        if forgotten:
            changes.append(f"REMOVE {', '.join(forgotten)}")
        try:
            await self._update(
                hold,
                UpdateExpression=" ".join(changes),
                ConditionExpression=" AND ".join(f"attribute_type({h}, :map)" for h in names),
                ExpressionAttributeNames={**names, **sums, **forgotten},
                ExpressionAttributeValues={
                    ":map": {"S": "M"},
                    **{f":{u[1:]}": _number(back[name]) for u, name in sums.items()},
                    **{f":{h[1:]}": item[name]["M"]["until"] for h, name in names.items()},
                },
            )
        except Refused:
            return  # somebody else did, or one of them was not dead after all

    async def _update(self, hold: Hold, **request: Any) -> Item:
        answer = await ask(
            self._client.update_item,
            TableName=self._table,
            Key={"pk": {"S": hold.budget}, "sk": {"S": f"{hold.moment.astimezone(UTC):%Y-%m}"}},
            ReturnValues="ALL_NEW",
            ReturnValuesOnConditionCheckFailure="ALL_OLD",
            **request,
        )
        item: Item = answer.get("Attributes", {})
        return item


def _window(hold: Hold, width: Width) -> str:
    return "month" if width == "month" else f"{hold.moment.astimezone(UTC):%d}"


def _name(hold: Hold) -> str:
    return f"hold#{hold.holder}"


def _told(hold: Hold, mark: Mark) -> str:
    return f"told#{_window(hold, mark.width)}#{mark.unit}#{mark.percent}"


def _number(value: Decimal | float) -> Any:
    return {"N": format(value, "f") if isinstance(value, Decimal) else str(value)}


def _hold_item(hold: Hold) -> dict[str, Any]:
    return {
        "day": {"S": _window(hold, "day")},
        "usd": _number(hold.most.usd),
        "tokens": _number(hold.most.tokens),
        "until": _number(round(hold.held_until.timestamp(), 3)),
    }


def _additions(hold: Hold, amount: Amount) -> tuple[dict[str, str], dict[str, Any], str]:
    """Names, values and text of what adds an amount to all four sums."""
    names, values = {}, {}
    for width in _WIDTHS:
        for unit in _UNITS:
            names[f"#{width}_{unit}"] = f"used#{_window(hold, width)}#{unit}"
            values[f":{width}_{unit}"] = _number(amount.of(unit))
    return names, values, ", ".join(f"{name} :{name[1:]}" for name in names)


def _holds(item: Item, hold: Hold) -> bool:
    return "M" in item.get(_name(hold), {})


def _dead(item: Item, now: datetime) -> list[str]:
    live = ((name, value["M"]) for name, value in item.items() if name.startswith("hold#") and "M" in value)
    return sorted(name for name, held in live if float(held["until"]["N"]) <= now.timestamp())


def _forgettable(item: Item, now: datetime) -> list[str]:
    """Some of the holders that were taken for dead so long ago that they surely are."""
    swept = ((name, value["N"]) for name, value in item.items() if name.startswith("hold#") and "N" in value)
    long_ago = now.timestamp() - _REMEMBERED_S
    return sorted(name for name, until in swept if float(until) <= long_ago)[:_SWEPT_AT_ONCE]


def _standing(item: Item, hold: Hold) -> Standing:
    windows = {width: _window(hold, width) for width in _WIDTHS}
    held: dict[tuple[Width, Unit], Decimal] = defaultdict(Decimal)
    for name, value in item.items():
        if name.startswith("hold#") and "M" in value:
            for width in _WIDTHS:
                if width == "month" or value["M"]["day"]["S"] == windows["day"]:
                    for unit in _UNITS:
                        held[width, unit] += Decimal(value["M"][unit]["N"])
    keys = [(width, unit) for width in _WIDTHS for unit in _UNITS]
    used = {(w, u): Decimal(item.get(f"used#{windows[w]}#{u}", {"N": "0"})["N"]) for w, u in keys}
    marks = (Mark(width, unit, percent) for width, unit in keys for percent in THRESHOLDS)
    told = frozenset(mark for mark in marks if _told(hold, mark) in item)
    return Standing(taken=_holds(item, hold), used=used, held=held, told=told)
