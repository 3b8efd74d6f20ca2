"""What the linter finds, and the prompt it looks at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from jinja2 import nodes
from typing_extensions import override

from llm_gateway.prompts.files.includes import Composition, compose, included, read_source
from llm_gateway.prompts.files.yaml_lines import KeyPath, line_of
from llm_gateway.prompts.prompt import Prompt, built_prompt
from llm_gateway.prompts.rendering.sandbox import GLOBALS, environment

KNOWN_NAMES = (*GLOBALS, "self")
Severity = Literal["error", "warning"]


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
        composition: Its template's source, partials included.
        tree: The syntax tree of that.
    """

    prompt: Prompt
    composition: Composition
    tree: nodes.Template

    @classmethod
    def read(cls, path: str, files: Mapping[str, bytes]) -> Subject:
        """Take the file at `path` apart.

        Raises:
            PromptSyntaxError: It cannot be used.
        """
        source = read_source(path, files[path])
        partials = included(source, files)
        prompt = built_prompt(source, partials, "")
        composition = compose(source, partials)
        return cls(prompt, composition, environment().parse(composition.text))

    @property
    def body(self) -> str:
        """The template's source, lines ended by a single newline."""
        return self.composition.text

    def at_key(self, keys: KeyPath, severity: Severity, code: str, message: str) -> Finding:
        """A finding about a key of the front matter, or the nearest one above it."""
        return Finding(self.prompt.path, line_of(self.prompt.front.lines, keys), severity, code, message)

    def at_line(self, line: int, severity: Severity, code: str, message: str) -> Finding:
        """A finding about a line of the body, counted from 1, told where its author wrote it."""
        source, own_line = self.composition.origins[min(line, len(self.composition.origins)) - 1]
        return Finding(source.path, own_line + source.offset, severity, code, message)
