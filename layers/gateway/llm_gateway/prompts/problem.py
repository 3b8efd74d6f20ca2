"""What is wrong with a prompt file, in words for logs and callers, who may not read its text."""

from __future__ import annotations

import re

_WORD = re.compile(r"\b(filter|test|method|function|block|field) '[^']*'")


def without_words(problem: str | None) -> str | None:
    """The problem without the words of the template that it names; they are for the file's author alone."""
    return problem and _WORD.sub(r"\1 '…'", problem)
