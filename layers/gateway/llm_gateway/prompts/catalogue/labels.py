"""Labels: names such as `production` that point to versions of a prompt, and move without an upload."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Protocol

from llm_gateway.errors import InvalidParameter, LabelMoved, PromptNotFound
from llm_gateway.prompts.catalogue.shares import LABEL_PATTERN, Labels, Share, Shares

_PERCENT = 100


@dataclass(frozen=True, slots=True)
class LabelMove:
    """Who moved a label when, from what to what.

    Attributes:
        path: The prompt.
        label: Its label.
        before: What it pointed to; empty if it was new.
        after: What it points to now; empty if it was removed.
        moved_at: Aware UTC.
        moved_by: As the store knows its users.
    """

    path: str
    label: str
    before: Shares
    after: Shares
    moved_at: datetime
    moved_by: str

    def applied_to(self, labels: Labels) -> Labels:
        """The labels after the move."""
        others = {name: shares for name, shares in labels.shares.items() if name != self.label}
        moved = {**others, self.label: self.after} if self.after else others
        return Labels(moved, labels.revision + 1)


class LabelStore(Protocol):
    """Where labels are kept. All methods raise StoreUnavailable when the store does not answer."""

    async def labels(self, path: str) -> Labels:
        """The labels of the prompt at exactly `path`."""
        ...

    async def move_label(self, move: LabelMove, seen: Labels) -> bool:
        """Move a label, keep a record of it and tell every process; False if `seen` is out of date."""
        ...

    async def moves(self, path: str) -> Sequence[LabelMove]:
        """Every move of a label of the prompt at exactly `path`, newest first."""
        ...


def check_label(label: str, param: str = "label") -> str:
    """The label itself, if it is one.

    Raises:
        InvalidParameter: It is not.
    """
    if not re.fullmatch(LABEL_PATTERN, label):
        raise InvalidParameter(
            f"'{param}' must begin with a small letter and hold up to 64 small letters, digits, '-' and '_'.",
            param=param,
        )
    return label


def shares_of(versions: Sequence[str], canary_percent: int | None = None) -> Shares:
    """One version with all calls, or a stable one and a canary.

    Args:
        versions: The stable version, and the canary if there is one.
        canary_percent: The canary's part, 1 to 99; None without one.

    Raises:
        InvalidParameter: A canary without a percentage, or the other way round.
    """
    if len(versions) == 1 and canary_percent is None:
        return (Share(versions[0], _PERCENT),)
    if len(versions) != 2 or canary_percent is None or not 0 < canary_percent < _PERCENT:
        raise InvalidParameter("A canary is a second version with 1 to 99 percent.", param="canary")
    if versions[0] == versions[1]:
        raise InvalidParameter("The canary must be another version than the stable one.", param="canary")
    return Share(versions[0], _PERCENT - canary_percent), Share(versions[1], canary_percent)


def chosen_version(shares: Shares, path: str, label: str, key: str) -> str:
    """The version that serves a caller: always the same for the same key while the shares stay.

    A caller's place between 0 and 100 depends on prompt, label and key alone, and the canary has the
    lower end: whoever has the canary keeps it while its share grows.
    """
    digest = sha256(f"{path}\n{label}\n{key}".encode()).digest()
    place = int.from_bytes(digest[:8], "big") / 2**64 * _PERCENT
    for share in reversed(shares):
        if place < share.percent:
            return share.version
        place -= share.percent
    return shares[0].version


async def moved(store: LabelStore, path: str, label: str, after: Shares, by: str, now: datetime) -> LabelMove:
    """Move a label, if nobody moves one of the prompt's labels at the same time.

    Raises:
        LabelMoved: Somebody did; says what the label points to now.
        StoreUnavailable: The store does not answer.
    """
    seen = await store.labels(path)
    move = LabelMove(path, label, seen.shares.get(label, ()), after, now, by)
    if not await store.move_label(move, seen):
        newest = (await store.labels(path)).shares.get(label, ())
        raise LabelMoved(f"Somebody moved it meanwhile; '{label}' is now {written(newest)}. Look again.")
    return move


async def before_last_move(store: LabelStore, path: str, label: str) -> Shares:
    """What a label pointed to before it was moved last.

    Raises:
        PromptNotFound: It was never moved from one version to another.
    """
    for move in await store.moves(path):
        if move.label == label:
            if move.before:
                return move.before
            break
    raise PromptNotFound(
        f"'{label}' of '{path}' has never pointed to anything else; name a version to move it to.",
        param="label",
    )


def written(shares: Shares) -> str:
    """Shares as people read them."""
    if len(shares) == 1:
        return shares[0].version
    return " + ".join(f"{share.version} ({share.percent} %)" for share in shares) or "nothing"
