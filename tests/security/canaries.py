"""Random strings that are put where secrets are, and looked for where no secret may be."""

from __future__ import annotations

import secrets
from typing import Any


class Canaries(dict[str, str]):
    """One for each place, made when it is first asked for; by name of the place."""

    def __missing__(self, place: str) -> str:
        self[place] = f"c4n4ry{secrets.token_hex(6)}"
        return self[place]

    def places_in(self, text: str, *allowed: str) -> list[str]:
        """The places whose canary is in `text`, those that are allowed left out."""
        return [place for place, value in self.items() if value in text and place not in allowed]


def call_full_of(c: Canaries, **changes: Any) -> dict[str, Any]:
    """A call of the prompt `secret` with a canary wherever it has room for one."""
    schema = {"type": "object", "properties": {c["property"]: {"type": "string"}}, "title": c["schema"]}
    return {
        "prompt": "secret",
        "variables": {"who": c["variable"], c["variable name"]: {c["inner name"]: [c["inner value"]]}},
        "sticky_key": c["sticky key"],
        "correlation_id": c["correlation id"],
        "metadata": {c["metadata name"]: c["metadata value"]},
        "output": {"schema": schema},
        **changes,
    }
