"""What the index stores about a prompt: its entry, its past versions, and the stamp of a write.

Plain values; knows no store and no file format.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from typing import Literal

from llm_gateway.json_schema.values import Json
from llm_gateway.models.options import ModelOptions

PromptState = Literal["ok", "broken", "deleted"]


@dataclass(frozen=True, slots=True)
class PromptEntry:
    """What the index knows of one prompt file, without its text.

    Attributes:
        path: Relative path, the prompt's id (`support/reply.prompt`).
        version: Version that is served, its partials included; None if no version parses.
        etag: Entity tag of the newest upload.
        size_bytes: Size of the newest upload.
        last_modified: When the newest upload was made, aware UTC.
        state: `broken` if the newest upload does not parse.
        required_variables: Dotted names a caller must give.
        description: From the front matter.
        model: `provider/name` from the front matter.
        parameters: Options from the front matter.
        input_schema: JSON Schema of the variables.
        error: Why the newest upload is broken, with its line; None if it is not.
        warnings: Unknown keys and the like.
        partials: Version of each partial that is served with it, by path.
        sources: What the entry was made from: the newest version of each file that was looked at, by
            path; None where there was no such file.
    """

    path: str
    version: str | None
    etag: str
    size_bytes: int
    last_modified: datetime
    state: PromptState = "ok"
    required_variables: tuple[str, ...] = ()
    description: str | None = None
    model: str | None = None
    parameters: ModelOptions = field(default_factory=ModelOptions)
    input_schema: Json = None
    error: str | None = None
    warnings: tuple[str, ...] = ()
    partials: Mapping[str, str] = field(default_factory=dict)
    sources: Mapping[str, str | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Revision:
    """One version that a prompt once had, served or not.

    Attributes:
        version: Its version; for one that is broken that of the file.
        made_at: When the newest of its files was uploaded, aware UTC.
        size_bytes: Size of the file, without partials.
        partials: Version of each partial that belongs to it, by path.
        error: Why it is broken; None if it is not.
    """

    version: str
    made_at: datetime
    size_bytes: int
    partials: Mapping[str, str] = field(default_factory=dict)
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Stamp:
    """What tells one state of an entry from another.

    Attributes:
        sequencer: Of the newest event that was counted in; all of one width, compared as text.
        writes: How often the entry was written.
    """

    sequencer: str
    writes: int


def version_of(own: str, partials: Mapping[str, str]) -> str:
    """The version of a prompt: its file's own, and a digest of its partials' if it has any."""
    if not partials:
        return own
    listed = "\n".join(f"{path} {version}" for path, version in sorted(partials.items()))
    return f"{own}~{sha256(listed.encode()).hexdigest()[:16]}"


def own_version(version: str) -> str:
    """The version of a prompt's own file, from the prompt's version."""
    return version.partition("~")[0]
