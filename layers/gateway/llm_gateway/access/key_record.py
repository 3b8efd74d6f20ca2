"""A gateway key as plain texts by name, which is how every store keeps it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime

from llm_gateway.access.caller import scopes_from
from llm_gateway.access.keys import GatewayKey
from llm_gateway.formats import changed_fields


def texts_of(key: GatewayKey) -> dict[str, str]:
    """What is kept of a key; what it does not have is left out."""
    texts = {
        "key_id": key.key_id,
        "digest": key.digest,
        "service": key.service,
        "scopes": json.dumps(changed_fields(key.scopes)),
        "created_at": key.created_at.isoformat(),
        "created_by": key.created_by,
    }
    if key.replaces is not None:
        texts["replaces"] = key.replaces
    return texts | ends_of(key.expires_at, key.revoked_at)


def ends_of(expires_at: datetime | None, revoked_at: datetime | None) -> dict[str, str]:
    """The ends of a key that are known."""
    ends = {"expires_at": expires_at, "revoked_at": revoked_at}
    return {name: moment.isoformat() for name, moment in ends.items() if moment is not None}


def key_of(texts: Mapping[str, str]) -> GatewayKey:
    """The key again."""
    return GatewayKey(
        key_id=texts["key_id"],
        digest=texts["digest"],
        service=texts["service"],
        scopes=scopes_from(json.loads(texts["scopes"])),
        created_at=datetime.fromisoformat(texts["created_at"]),
        created_by=texts["created_by"],
        expires_at=_moment(texts.get("expires_at")),
        revoked_at=_moment(texts.get("revoked_at")),
        replaces=texts.get("replaces"),
    )


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
