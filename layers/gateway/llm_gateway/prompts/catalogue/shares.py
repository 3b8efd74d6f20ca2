"""What a label points to: versions of a prompt, each with its percentage of the label's calls.

Plain values; labels.py checks and moves them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

LABEL_PATTERN = r"^[a-z][a-z0-9_-]{0,63}$"


@dataclass(frozen=True, slots=True)
class Share:
    """A version and its part of a label's calls.

    Attributes:
        version: Version of the prompt.
        percent: 1 to 100.
    """

    version: str
    percent: int


Shares = tuple[Share, ...]


@dataclass(frozen=True, slots=True)
class Labels:
    """The labels of one prompt.

    Attributes:
        shares: By label, what it points to; the percents of each label add up to 100.
        revision: Grows with every move; 0 if no label was ever set.
    """

    shares: Mapping[str, Shares] = field(default_factory=dict)
    revision: int = 0
