"""How large a regular expression is once its repetitions are written out."""

from __future__ import annotations

import re
from collections.abc import Callable

_TOKEN = re.compile(
    r"\\[pP]\{[^}]*\}|\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|\{(\d{1,9})(?:,(\d{0,9}))?\}|\(\?[:<P][^()]*?(?:>|(?<=:))|[()|]|.",
    re.S,
)
_ESCAPED = re.compile(r"\\(.)", re.S)
_BREADTH = {**dict.fromkeys("pPwW", 20), **dict.fromkeys("dD", 4), **dict.fromkeys("sS", 1)}


def states_of(pattern: str) -> int:
    """States of `pattern`, one for each character or class, those in `{n,m}` times the larger number.

    It is a bound, not a parser: a pattern that is none gets some figure, too.
    """
    return _written_out(pattern, lambda _: 1)


def breadth_of(pattern: str) -> int:
    """How much of Unicode `pattern` names, counted as `states_of` counts.

    A class of letters is made of hundreds of ranges: it takes as long to compile, and as much memory, as
    hundreds of characters. `.` and the like are made of a few.
    """
    return _written_out(pattern, _breadth)


def _breadth(text: str) -> int:
    few = text == "." or text.startswith("[^")
    return few + sum(_BREADTH.get(letter, 0) for letter in _ESCAPED.findall(text))


def _written_out(pattern: str, weigh: Callable[[str], int]) -> int:
    groups: list[list[int]] = [[]]
    for token in _TOKEN.finditer(pattern):
        text = token[0]
        if text.startswith("("):
            groups.append([])
        elif text == ")" and len(groups) > 1:
            inner = sum(groups.pop())
            groups[-1].append(inner)
        elif token[1] is not None and groups[-1]:
            groups[-1][-1] *= max(1, int(token[1]), int(token[2] or 0))
        else:
            groups[-1].append(weigh(text))
    return sum(map(sum, groups))
