"""Twenty hostile calls at a time: how long others wait, and how far calls outlive their deadlines."""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2

from local_aws.session import progress
from tests.entrypoints.server.serving import PATIENCE_S, TEST_MODE, Serving, serving

AT_ONCE = 20
TIMEOUT_S = 5.0
HEALTH_S, OVERRUN_S = 0.5, 0.25
_HEALTH_EVERY_S = 0.02
_PROMPTS = {
    "upper.md": '{{ xs | map("upper") | join(" ") }}',
    "loop.md": "{% for x in xs %}{% for y in xs %}{{ x }}{% endfor %}{% endfor %}",
    "search.md": "{% for x in xs %}{% if x in text %}{{ x }}{% endif %}{% endfor %}",
    "checked.md": "---\ninput: {schema: {properties: {xs: {items: {type: integer}}}}}\n---\n{{ xs }}",
    "plain.md": "Hello.",
}


def _doubled(times: int) -> dict[str, Any]:
    defs = {f"d{n}": {"allOf": 2 * [{"$ref": f"#/$defs/d{n + 1}"}]} for n in range(times)}
    return {"$ref": "#/$defs/d0", "$defs": {**defs, f"d{times}": {}}}


def kinds() -> Mapping[str, bytes]:
    """A body of each kind of hostile call."""
    many = ["x"] * 90_000
    calls: dict[str, Mapping[str, Any]] = {
        "600 KB through map and join": {"prompt": "upper", "variables": {"xs": ["abc"] * 90_000}},
        "loops in loops": {"prompt": "loop", "variables": {"xs": many}},
        "searches in a long text": {
            "prompt": "search",
            "variables": {"xs": [f"word {n}" for n in range(5_000)], "text": "a" * 900_000},
        },
        "wrong items": {"prompt": "checked", "variables": {"xs": many}},
        "references that double": {"prompt": "plain", "output": {"schema": _doubled(22)}},
        "a large schema": {
            "prompt": "plain",
            "output": {"schema": {"properties": {f"p{n}": {"pattern": f"^{n}$"} for n in range(100)}}},
        },
        "patterns of letters": {
            "prompt": "plain",
            "output": {"schema": {"allOf": [{"pattern": rf"\p{{L}}{{20}}{n}"} for n in range(100)]}},
        },
        "a wide schema": {
            "prompt": "plain",
            "output": {"schema": {"type": "object", "properties": {f"p{n}": {} for n in range(9_000)}}},
        },
        "an answer of many values": {
            "prompt": "plain",
            "output": {"schema": {"type": "array", "items": {"type": "string"}, "minItems": 9_000}},
        },
    }
    bodies = {name: json.dumps({**call, "timeout_s": TIMEOUT_S}).encode() for name, call in calls.items()}
    return {
        **bodies,
        "half a million empty lists": b'{"prompt": "plain", "variables": {"x": [[]'
        + b",[]" * 340_000
        + b"]}}",
        "a text without an end": b'{"prompt": "plain", "variables": {"x": "' + b'\\",' * 330_000,
        "fields that there are not": json.dumps(
            dict.fromkeys((f"field{n}" for n in range(40_000)), 1)
        ).encode(),
    }


@dataclass
class Seen:
    """What one kind of call did.

    Attributes:
        health_s: The longest answer of /health meanwhile.
        call_s: The longest call.
        codes: What the calls ended in, and how often.
    """

    health_s: float = 0.0
    call_s: float = 0.0
    codes: Counter[str] = field(default_factory=Counter)


def run() -> bool:
    """Measure, print, and tell whether both promises are kept."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "prompts").mkdir()
        for path, text in _PROMPTS.items():
            (folder / "prompts" / path).write_text(text)
        with serving(folder, TEST_MODE) as server:
            seen = asyncio.run(_measured(server))
            resident_mb = server.resident_mb()
    return _report(seen, resident_mb)


async def _measured(server: Serving) -> Mapping[str, Seen]:
    seen: dict[str, Seen] = {}
    limits = httpx2.Limits(max_connections=2 * AT_ONCE)
    async with httpx2.AsyncClient(base_url=server.url, timeout=PATIENCE_S, limits=limits) as client:
        for name, body in kinds().items():
            progress(f"hostile: {name}")
            seen[name] = await _together(client, body)
    return seen


async def _together(client: httpx2.AsyncClient, body: bytes) -> Seen:
    seen = Seen()
    watching = asyncio.create_task(_watch(client, seen))
    await asyncio.sleep(3 * _HEALTH_EVERY_S)
    await asyncio.gather(*(_call(client, body, seen) for _ in range(AT_ONCE)))
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    return seen


async def _call(client: httpx2.AsyncClient, body: bytes, seen: Seen) -> None:
    began = time.perf_counter()
    answer = await client.post("/v1/call", content=body, headers={"content-type": "application/json"})
    seen.call_s = max(seen.call_s, time.perf_counter() - began)
    error = answer.json().get("error")
    seen.codes["answered" if error is None else error["code"]] += 1


async def _watch(client: httpx2.AsyncClient, seen: Seen) -> None:
    while True:
        began = time.perf_counter()
        assert (await client.get("/health")).status_code == 200
        seen.health_s = max(seen.health_s, time.perf_counter() - began)
        await asyncio.sleep(_HEALTH_EVERY_S)


def _report(seen: Mapping[str, Seen], resident_mb: float) -> bool:
    print(f"\n{AT_ONCE} hostile calls at a time, each with {TIMEOUT_S:.0f} s, against one process")
    print(f"{'':<32}{'/health, s':>11}{'overrun, s':>11}   ended in")
    kept = True
    for name, found in seen.items():
        overrun = max(0.0, found.call_s - TIMEOUT_S)
        fine = found.health_s < HEALTH_S and overrun <= OVERRUN_S
        kept = kept and fine
        ends = ", ".join(f"{count} {code}" for code, count in found.codes.most_common())
        print(f"{name:<32}{found.health_s:>11.3f}{overrun:>11.3f}   {ends}{'' if fine else '  BROKEN'}")
    print(f"{'promised':<32}{HEALTH_S:>11.3f}{OVERRUN_S:>11.3f}   memory after it, MB: {resident_mb:.0f}")
    print(
        "Both promises are kept." if kept else "BROKEN: a caller kept others waiting, or outlived its time."
    )
    return kept
