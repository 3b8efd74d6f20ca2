"""Which prompts a caller may see: what its key's prompt scopes open, and nothing about the rest."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llm_gateway.prompts.catalogue.entries import PromptEntry

PROMPT_EXTENSIONS = (".prompt", ".md", ".txt")
"""How the name of a prompt's file ends."""

HIDDEN = "a file outside of your key's prompts"
_EXTENSION = "|".join(re.escape(extension) for extension in PROMPT_EXTENSIONS)
_UNKNOWN_NAMES = (  # a path may hold spaces, quotes, commas and colons; these are the places that it ends at
    rf"\A(?!line \d)(.+?(?:{_EXTENSION}))(?=(?: line \d+)?: )",  # the file that an error is about
    rf"(?<!\w)'((?:[^']|'(?=\w))*?(?:{_EXTENSION}))'(?!\w)",
    rf"([^\s':,]+(?:{_EXTENSION}))(?![\w.])",
)


@dataclass(frozen=True, slots=True)
class Reach:
    """The prompts that a caller may see and call.

    Attributes:
        bounds: `support/` opens what lies below it, `support/reply.prompt` this file alone; anything else
            is a beginning of paths, which only keys made by earlier versions have. None is no bound.
    """

    bounds: tuple[str, ...] | None = None

    def holds(self, path: str) -> bool:
        """True if the prompt at exactly `path` may be seen."""
        return self.bounds is None or any(_opens(bound, path) for bound in self.bounds)

    def may_name(self, name: str) -> bool:
        """True if `name`, with or without extension, could be a prompt that may be seen.

        The answer depends on the bounds alone, so it tells nothing of what there is.
        """
        return any(self.holds(path) for path in candidates(name))

    def ranges(self, directory: str) -> list[str]:
        """Bounds that together hold what may be seen below `directory`, in order, none within another."""
        below = f"{directory}/" if directory else ""
        if self.bounds is None:
            return [below]
        inner = {bound if bound.startswith(below) else below for bound in self.bounds if _meet(bound, below)}
        return sorted(bound for bound in inner if not any(_covers(other, bound) for other in inner - {bound}))

    def redacted(self, text: str, named: Iterable[str] = ()) -> str:
        """A message without the names of files that may not be seen.

        Args:
            text: The message.
            named: Files that it may name, seen or not. A name that is not among them is found by how it is
                written, which is uncertain if it holds spaces or quotes.
        """
        if self.bounds is None:
            return text
        known = "|".join(re.escape(path) for path in sorted(named, key=len, reverse=True))
        forms = (*((rf"'({known})'", f"({known})") if known else ()), *_UNKNOWN_NAMES)
        return re.sub("|".join(forms), self._shown, text, flags=re.DOTALL)

    def shown(self, entry: PromptEntry) -> PromptEntry:
        """The entry without the names of partials that may not be seen."""
        if self.bounds is None:
            return entry
        named = {**entry.sources, **entry.partials}
        return replace(
            entry,
            partials={path: version for path, version in entry.partials.items() if self.holds(path)},
            error=None if entry.error is None else self.redacted(entry.error, named),
            warnings=tuple(self.redacted(warning, named) for warning in entry.warnings),
        )

    def _shown(self, found: re.Match[str]) -> str:
        path = next(name for name in found.groups() if name is not None)
        return found.group(0) if self.holds(path) else HIDDEN


EVERYTHING = Reach()
"""No bound."""


def candidates(name: str) -> tuple[str, ...]:
    """The paths that `name` can stand for."""
    return (name,) if _is_file(name) else tuple(name + extension for extension in PROMPT_EXTENSIONS)


def _is_file(name: str) -> bool:
    return name.endswith(PROMPT_EXTENSIONS)


def _opens(bound: str, path: str) -> bool:
    return path == bound if _is_file(bound) else path.startswith(bound)


def _meet(bound: str, below: str) -> bool:
    """True if a bound opens something below a directory, or all of it."""
    return bound.startswith(below) or _covers(bound, below)


def _covers(wide: str, narrow: str) -> bool:
    return not _is_file(wide) and narrow.startswith(wide)
