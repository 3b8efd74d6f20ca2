"""What a caller may have meant by a name that there is not."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice

from llm_gateway.models import Json

_LONGEST = 128  # comparing takes time that grows with the square of the length
_MOST_NAMES = 200


def nearest(name: str, names: Iterable[str], most: int = 1) -> list[str]:
    """The names most like `name`, the best first; none if none is like it."""
    if len(name) > _LONGEST:
        return []
    from difflib import get_close_matches  # only mistakes pay for its import

    known = {text.casefold(): text for text in islice(names, _MOST_NAMES) if len(text) <= _LONGEST}
    return [known[text] for text in get_close_matches(name.casefold(), known, n=most, cutoff=0.6)]


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """` Did you mean 'support/reply.prompt'?`: a sentence to append, or nothing."""
    found = nearest(name, names)
    return f" Did you mean '{found[0]}'?" if found else ""


def variable_hint(missing: Sequence[str], given: Mapping[str, Json]) -> str:
    """What is likely wrong with variables of which some are missing: a sentence to append, or nothing."""
    if hint := nesting_hint(given):
        return hint
    spare = [name for name in islice(given, _MOST_NAMES) if name not in missing]
    for name in missing[:_MOST_NAMES]:
        if "." not in name and (found := nearest(name, spare)):
            return f" Did you mean '{name}' by '{found[0]}'?"
    return ""


def nesting_hint(given: Mapping[str, Json]) -> str:
    """` ... nest it: {"user": {"name": ...}}.` if a variable's name holds a dot, or nothing."""
    for name in islice(given, _MOST_NAMES):
        steps = name.split(".")
        if len(steps) > 1 and all(steps) and len(name) <= _LONGEST and name.isprintable():
            opened = "".join(f"{{{json.dumps(step, ensure_ascii=False)}: " for step in steps)
            return f" A dot does not reach into a value; nest it: {opened}...{'}' * len(steps)}."
    return ""
