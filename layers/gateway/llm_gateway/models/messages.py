"""What is said to a model.

Plain values; knows no vendor's format.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Role = Literal["system", "user", "assistant"]


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a conversation, as a provider gets it."""

    role: Role
    content: str
