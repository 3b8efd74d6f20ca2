"""What the linter finds, and the prompt it looks at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Literal

from jinja2 import nodes
from typing_extensions import override

from llm_gateway.prompts.front_matter import split_front_matter
from llm_gateway.prompts.prompt import Prompt, parse_prompt
from llm_gateway.prompts.sandbox import GLOBALS, PromptEnvironment
from llm_gateway.prompts.yaml_mapping import KeyPath, line_of

KNOWN_NAMES = (*GLOBALS, "self")
Severity = Literal["error", "warning"]
environment = cache(PromptEnvironment)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing to mend.

    Attributes:
        path: The file it is in: the prompt, or a partial of it.
        line: Line of that file, counted from 1; None if it is the file as a whole.
        severity: An error fails calls or means something else than it says; a warning works.
        code: Stable name of the kind of finding.
        message: What is wrong and what to do; names keys and variables, never quotes values.
    """

    path: str
    line: int | None
    severity: Severity
    code: str
    message: str

    @override
    def __str__(self) -> str:
        """`support/reply.prompt:3: error: … [code]`."""
        place = self.path if self.line is None else f"{self.path}:{self.line}"
        return f"{place}: {self.severity}: {self.message} [{self.code}]"


@dataclass(frozen=True, slots=True)
class Subject:
    """A prompt that parses, taken apart.

    Attributes:
        prompt: The prompt.
        body: Its template's source, lines ended by a single newline.
        tree: The syntax tree of `body`.
        offset: Lines of the file before the body.
    """

    prompt: Prompt
    body: str
    tree: nodes.Template
    offset: int

    @classmethod
    def read(cls, path: str, files: Mapping[str, bytes]) -> Subject:
        """Take the file at `path` apart.

        Raises:
            PromptSyntaxError: It cannot be used.
        """
        prompt = parse_prompt(path, "", files[path])
        text = files[path].decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
        _, body, offset = split_front_matter(text)
        return cls(prompt, body, environment().parse(body), offset)

    def at_key(self, keys: KeyPath, severity: Severity, code: str, message: str) -> Finding:
        """A finding about a key of the front matter, or the nearest one above it."""
        return Finding(self.prompt.path, line_of(self.prompt.front.lines, keys), severity, code, message)

    def at_line(self, line: int, severity: Severity, code: str, message: str) -> Finding:
        """A finding about a line of the body, counted from 1."""
        return Finding(self.prompt.path, line + self.offset, severity, code, message)
