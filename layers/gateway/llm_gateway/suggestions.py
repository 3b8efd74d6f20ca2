"""What a caller may have meant by a name that there is not."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from heapq import nlargest
from itertools import islice

from llm_gateway.json_schema.values import Json

_LONGEST = 128  # comparing takes time that grows with the square of the length
_MOST_NAMES = 200
_MOST_MISSING = 20
_ALIKE = 0.6
_COMPARED = 5  # of the names with the same letters, the most alike; only these are compared letter by letter


def nearest(name: str, names: Iterable[str], most: int = 1) -> list[str]:
    """The names most like `name`, the best first; none if none is like it."""
    if len(name) > _LONGEST:
        return []
    from difflib import SequenceMatcher  # only mistakes pay for its import

    known = {text.casefold(): text for text in islice(names, _MOST_NAMES) if len(text) <= _LONGEST}
    matcher = SequenceMatcher()
    matcher.set_seq2(name.casefold())
    likely = list[tuple[float, str]]()
    for text in known:
        matcher.set_seq1(text)
        if matcher.real_quick_ratio() >= _ALIKE and (most_alike := matcher.quick_ratio()) >= _ALIKE:
            likely.append((most_alike, text))
    alike = list[tuple[float, str]]()
    for _, text in nlargest(_COMPARED, likely):
        matcher.set_seq1(text)
        alike.append((matcher.ratio(), text))
    return [known[text] for ratio, text in nlargest(most, alike) if ratio >= _ALIKE]


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """` Did you mean 'support/reply.prompt'?`: a sentence to append, or nothing."""
    found = nearest(name, names)
    return f" Did you mean '{found[0]}'?" if found else ""


def written_as(missing: str, given: Iterable[str]) -> str:
    """` Did you mean 'prompt' by 'promt'?`: a sentence to append about a name that is missing, or nothing."""
    found = nearest(missing, given)
    return f" Did you mean '{missing}' by '{found[0]}'?" if found else ""


def variable_hint(missing: Sequence[str], given: Mapping[str, Json]) -> str:
    """What is likely wrong with variables of which some are missing: a sentence to append, or nothing."""
    if hint := nesting_hint(given):
        return hint
    spare = [name for name in islice(given, _MOST_NAMES) if name not in missing]
    for name in missing[:_MOST_MISSING]:
        if "." not in name and (hint := written_as(name, spare)):
            return hint
    return ""


def nesting_hint(given: Mapping[str, Json]) -> str:
    """` ... nest it: {"user": {"name": ...}}.` if a variable's name holds a dot, or nothing."""
    for name in islice(given, _MOST_NAMES):
        steps = name.split(".")
        if len(steps) > 1 and all(steps) and len(name) <= _LONGEST and name.isprintable():
            opened = "".join(f"{{{json.dumps(step, ensure_ascii=False)}: " for step in steps)
            return f" A dot does not reach into a value; nest it: {opened}...{'}' * len(steps)}."
    return ""
