"""Tokens of a text without a vendor's tokenizer: an estimate, never what a call is billed by."""

from __future__ import annotations

import re
from itertools import islice

TOKENS_PER_MESSAGE = 4
"""What a message's role and ends cost on top of its text."""

_TOKEN = re.compile(r"\w{1,6}|[^\w\s]|\s{2,}")


def estimated_tokens(text: str) -> int:
    """Tokens of `text`, roughly: words in pieces of six letters, each punctuation mark by itself.

    Within about a fifth of OpenAI's own count for English prose; needs no tokenizer tables.
    """
    return sum(1 for _ in _TOKEN.finditer(text))


def first_tokens(text: str, count: int) -> str:
    """The beginning of `text` up to its estimated token number `count`, at least 1."""
    end = len(text)
    for match in islice(_TOKEN.finditer(text), count - 1, count):
        end = match.end()
    return text[:end]
