"""Commands about gateway keys: create, list, rotate, revoke."""

from __future__ import annotations

import asyncio
import re
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer
from pydantic import TypeAdapter, ValidationError

from llm_gateway.access.caller import METHODS, Scopes, scopes_from
from llm_gateway.access.keys import GatewayKey
from llm_gateway.api.fields import ServiceName
from llm_gateway.entrypoints.command_line.key_scopes import (
    allowed,
    check_method,
    check_model_scope,
    check_prompt_scope,
    is_wide,
)
from llm_gateway.entrypoints.command_line.output import fail, note, say, show_json, show_table
from llm_gateway.entrypoints.command_line.stores import KeyStores
from llm_gateway.errors import InvalidParameter
from llm_gateway.formats import to_iso

_UNITS = {"h": "hours", "d": "days", "w": "weeks"}
_DURATION = re.compile(r"([1-9]\d{0,4})([hdw])")

Service = Annotated[str, typer.Argument(help="The service that calls with it: recorded and billed.")]
KeyId = Annotated[str, typer.Argument(help="The key's id, or the key itself.")]
Lasts = Annotated[
    str | None, typer.Option("--expires-in", help="How long it lasts: 12h, 90d, 52w. Left out: for good.")
]


def create(
    context: typer.Context,
    service: Service,
    prompt: Annotated[
        list[str] | None,
        typer.Option(help="Its prompts: a directory (support/) or a file (a.txt). Repeatable."),
    ] = None,
    model: Annotated[
        list[str] | None, typer.Option(help="A model it may use: openai/gpt-4o-mini, openai/*. Repeatable.")
    ] = None,
    method: Annotated[
        list[str] | None, typer.Option(help=f"A method it may call: {', '.join(METHODS)}. Repeatable.")
    ] = None,
    all_usage: Annotated[
        bool, typer.Option("--all-usage", help="May see what other services spent.")
    ] = False,
    calls_per_minute: Annotated[
        int | None, typer.Option(min=1, help="Calls in a minute of the clock.")
    ] = None,
    expires_in: Lasts = None,
) -> None:
    """Make a key and show it, once: `llm-gateway --stack llm-gateway-dev keys create shop --prompt support/`.

    The key alone is on standard output, so that it can be piped to where it is kept.
    """
    scopes = scopes_from(
        {
            "methods": [check_method(name) for name in method or ()] or None,
            "prompts": [check_prompt_scope(bound) for bound in prompt or ()] or None,
            "models": [check_model_scope(bound) for bound in model or ()] or None,
            "all_usage": all_usage,
            "calls_per_minute": calls_per_minute,
        }
    )
    text, key = asyncio.run(_created(_opened(context), _checked(service), scopes, _duration(expires_in)))
    _tell_new(text, key)


def list_keys(
    context: typer.Context,
    json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Every key, what it allows and until when: `llm-gateway --stack llm-gateway-dev keys list`."""
    keys, now = asyncio.run(_opened(context).store.all()), datetime.now(UTC)
    if json:
        show_json([_facts(key, now) for key in keys])
        return
    show_table(["key", "service", "state", "allows", "made"], [_row(key, now) for key in keys])


def rotate(
    context: typer.Context,
    key_id: KeyId,
    overlap: Annotated[str, typer.Option(help="How long the old key goes on: 24h, 7d.")] = "24h",
    expires_in: Lasts = None,
) -> None:
    """Replace a key; both work for a while: `llm-gateway --stack NAME keys rotate 0f1e2d3c4b5a`."""
    stores, both = _opened(context), _duration(overlap) or timedelta()
    text, key = asyncio.run(_rotated(stores, key_id, both, _duration(expires_in)))
    _tell_new(text, key)
    if is_wide(key.scopes):
        note(f"Its scopes are those of the old key and WIDE: {allowed(key.scopes)}; better create a new key.")
    note(f"The old key {key.replaces} ends {overlap} from now at the latest.")


def revoke(context: typer.Context, key_id: KeyId) -> None:
    """End a key now: `llm-gateway --stack llm-gateway-dev keys revoke 0f1e2d3c4b5a`."""
    key = asyncio.run(_revoked(_opened(context), key_id))
    say(f"{key.key_id} of {key.service} is revoked; who remembers it forgets it within minutes.", "green")


def _opened(context: typer.Context) -> KeyStores:
    stores: KeyStores = context.obj.keys()
    return stores


async def _created(
    stores: KeyStores, service: str, scopes: Scopes, lasts: timedelta | None
) -> tuple[str, GatewayKey]:
    return await stores.keys.create(service, scopes, await stores.user(), lasts=lasts)


async def _rotated(
    stores: KeyStores, key_id: str, overlap: timedelta, lasts: timedelta | None
) -> tuple[str, GatewayKey]:
    old = await _found(stores, key_id)
    if old.ended(datetime.now(UTC)):
        raise fail(f"The key {old.key_id} has ended; create a new one.")
    return await stores.keys.rotate(old, await stores.user(), overlap=overlap, lasts=lasts)


async def _revoked(stores: KeyStores, key_id: str) -> GatewayKey:
    return await stores.keys.revoke(await _found(stores, key_id))


async def _found(stores: KeyStores, key_id: str) -> GatewayKey:
    key = await stores.store.get(_id_in(key_id))
    if key is None:
        raise fail("There is no such key; `llm-gateway keys list` shows them.")
    return key


def _id_in(text: str) -> str:
    return text.split("_")[1] if text.startswith("lgw_") and text.count("_") > 1 else text


def _checked(service: str) -> str:
    try:
        return TypeAdapter[str](ServiceName).validate_python(service)
    except ValidationError:
        raise InvalidParameter("A service's name has 1 to 64 printable characters.") from None


def _duration(text: str | None) -> timedelta | None:
    if text is None:
        return None
    found = _DURATION.fullmatch(text)
    if found is None:
        raise InvalidParameter(f"'{text}' is no duration; write 12h, 90d or 52w.")
    return timedelta(**{_UNITS[found.group(2)]: int(found.group(1))})


def _tell_new(text: str, key: GatewayKey) -> None:
    note(f"A key of {key.service}, shown this once; its id is {key.key_id}.")
    say(text)


def _facts(key: GatewayKey, now: datetime) -> dict[str, object]:
    """All that is known of a key, its hash left out."""
    facts = {name: value for name, value in asdict(key).items() if name != "digest"}
    return {**facts, "state": _state(key, now), "wide": is_wide(key.scopes)}


def _row(key: GatewayKey, now: datetime) -> list[str]:
    return [key.key_id, key.service, _state(key, now), allowed(key.scopes), to_iso(key.created_at)]


def _state(key: GatewayKey, now: datetime) -> str:
    if key.revoked_at is not None:
        return "revoked"
    if key.ended(now):
        return "expired"
    return "valid" if key.expires_at is None else f"until {to_iso(key.expires_at)}"
