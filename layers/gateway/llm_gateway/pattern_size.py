"""How large a regular expression is once its repetitions are written out."""

from __future__ import annotations

import re

_TOKEN = re.compile(
    r"\\[pP]\{[^}]*\}|\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|\{(\d{1,9})(?:,(\d{0,9}))?\}|\(\?[:<P][^()]*?(?:>|(?<=:))|[()|]|.",
    re.S,
)


def states_of(pattern: str) -> int:
    """States of `pattern`, one for each character or class, those in `{n,m}` times the larger number.

    It is a bound, not a parser: a pattern that is none gets some figure, too.
    """
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
            groups[-1].append(1)
    return sum(map(sum, groups))
