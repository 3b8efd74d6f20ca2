"""events/ is for `sam local invoke` and for the tests; none may be forgotten or go stale."""

from __future__ import annotations

import json
from pathlib import Path

from tests.template.test_template import FUNCTIONS, folder_of, routes

ROOT = Path(__file__).parent.parent.parent
EVENTS = sorted((ROOT / "events").glob("*.json"))
NAMES = sorted((folder_of(name) for name in FUNCTIONS), key=len, reverse=True)


def function_of(event: Path) -> str:
    return next(name for name in NAMES if event.stem.startswith(f"{name}_"))


def test_every_function_has_an_event_and_every_event_a_function() -> None:
    assert {function_of(event) for event in EVENTS} == set(NAMES)


def test_every_http_event_names_a_real_route() -> None:
    for path in EVENTS:
        event = json.loads(path.read_text())
        if "httpMethod" in event:
            assert (event["httpMethod"], event["resource"]) in routes(), path.name


def test_every_event_is_used_by_a_test_or_the_demo() -> None:
    sources = [*(ROOT / "tests").rglob("*.py"), *(ROOT / "tools").rglob("*.py")]
    used = "\n".join(path.read_text() for path in sources)
    assert [event.stem for event in EVENTS if event.stem not in used] == []
