"""Rendering: sandboxed Jinja2 whose role lines no variable can forge.

A line that holds nothing but `system:`, `user:` or `assistant:`, outside any Jinja block, opens a
message. Role lines are found in the *source*, before any value is known, and replaced there by a
mark that holds 128 random bits; the rendered text is cut at that mark only. A value that looks like
a role line stays text.
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import get_args

from jinja2 import Template, nodes
from jinja2.exceptions import TemplateSyntaxError, UndefinedError
from jinja2.parser import Parser

from llm_gateway.errors import InvalidVariables, RenderLimitExceeded
from llm_gateway.json_schema.values import Json
from llm_gateway.models.messages import Message, Role
from llm_gateway.prompts.files.bounds import Fault, check_role_lines, check_tree, check_variables
from llm_gateway.prompts.files.front_matter import PromptSyntaxError
from llm_gateway.prompts.rendering.metered_tree import metered
from llm_gateway.prompts.rendering.metering import (
    QUICK_BYTES,
    QUICK_STEPS,
    TIME_LIMIT_S,
    Budget,
    spending,
    text,
)
from llm_gateway.prompts.rendering.required_variables import required_variables
from llm_gateway.prompts.rendering.sandbox import GLOBALS, PromptEnvironment, environment
from llm_gateway.prompts.rendering.vocabulary import unknown_word
from llm_gateway.validation import has_half_character

_EDGE = "\x02"  # on both sides of a mark; no whitespace, which a tag's `-` would trim away
_ROLE_LINE = re.compile(r"^[ \t]*(system|user|assistant):[ \t]*$")
_OPENING = {"for", "if", "macro", "call", "filter", "with", "autoescape", "block", "trans"}
_UNKNOWN_TAG = re.compile(
    r"Encountered unknown tag '(\w+)'"
)  # what Jinja2 says of `{% do %}` or a stray `{% endif %}`
_TAGS = {"do", "break", "continue", "debug", "trans", "else", "elif", *(f"end{name}" for name in _OPENING)}
_KNOWN = (*GLOBALS, "self")  # Jinja2 binds `self` to the template's blocks
_ROLES: tuple[Role, ...] = get_args(Role)


@dataclass(frozen=True, slots=True)
class PromptTemplate:
    """A compiled prompt body.

    Attributes:
        template: The compiled body with a mark in place of every role line.
        mark: The secret text that stands before a role's name.
        required: Dotted names of the variables it cannot do without.
    """

    template: Template
    mark: str
    required: tuple[str, ...]

    @classmethod
    def compile(cls, source: str, fault: Fault = PromptSyntaxError) -> PromptTemplate:
        """Compile a prompt's body.

        Args:
            source: The body, lines ended by a single newline, its size within the bounds.
            fault: Makes the error from a reason and a line of `source`.

        Raises:
            PromptSyntaxError: The body is no template; names the line.
        """
        mark = f"{_EDGE}{secrets.token_hex(16)}:"
        try:
            marked = _mark_role_lines(environment(), source, mark, fault)
            tree = _parsed(marked, fault)
            check_tree(tree, fault)
            _refuse_other_files(tree, fault)
            _refuse_unknown_words(tree, fault)
            required = required_variables(tree, _KNOWN)
            check_variables(required, fault)
            with spending(Budget(len(source))):
                template = environment().from_string(metered(tree))
        except PromptSyntaxError:
            raise
        except TemplateSyntaxError as error:
            raise fault(_reason(error), error.lineno) from error
        except (RecursionError, MemoryError) as error:
            raise fault("the template is nested too deeply", None) from error
        except Exception as error:  # Jinja2 computes constants as it compiles, and trips over some
            raise fault("the template cannot be compiled", None) from error
        return cls(template=template, mark=mark, required=tuple(required))

    def render(
        self,
        variables: Mapping[str, Json],
        max_chars: int,
        time_limit_s: float = TIME_LIMIT_S,
        clock: Callable[[], float] = time.monotonic,
        *,
        quick: bool = False,
    ) -> tuple[Message, ...]:
        """Fill in the variables and cut the text into messages; blank messages are left out.

        Args:
            variables: Every variable the template may use.
            max_chars: Longest text it may give.
            time_limit_s: Longest time it may take; the budget of steps mostly ends it well before.
            clock: Seconds that only grow.
            quick: True allows no more steps and bytes than take a few milliseconds.

        Raises:
            InvalidVariables: A value does not fit what the template does with it, or nothing is
                left to send.
            RenderLimitExceeded: The text would be longer than `max_chars`, or takes too much to make.
        """
        allowed: dict[str, int] = {"max_steps": QUICK_STEPS, "max_bytes": QUICK_BYTES} if quick else {}
        with spending(Budget(max_chars, time_limit_s, clock, **allowed)):
            whole = "".join(self._chunks(variables, max_chars))
        if has_half_character(whole):
            raise InvalidVariables(
                "With these variables the prompt holds half a character (U+D800 to U+DFFF).",
                param="variables",
            )
        preamble, *parts = re.split(f"{self.mark}({'|'.join(_ROLES)}){_EDGE}", whole)
        roles: list[tuple[str, str]] = [("user", preamble), *zip(parts[::2], parts[1::2], strict=True)]
        messages = tuple(
            Message(role=known, content=content.strip())
            for role, content in roles
            for known in _ROLES
            if known == role and content.strip()
        )
        if not messages:
            raise InvalidVariables("With these variables the prompt is empty.", param="variables")
        return messages

    def _chunks(self, variables: Mapping[str, Json], max_chars: int) -> Iterator[str]:
        size = 0
        try:
            for made in self.template.generate(variables):
                chunk = made if isinstance(made, str) else text(made)  # `{% filter list %}` yields a list
                size += len(chunk)
                if size > max_chars:
                    raise RenderLimitExceeded(
                        f"The rendered prompt is longer than {max_chars} characters.", param="variables"
                    )
                yield chunk
        except RenderLimitExceeded:
            raise
        except UndefinedError as error:
            raise InvalidVariables(
                "The prompt uses a field that the given variables do not have.", param="variables"
            ) from error
        except (RecursionError, MemoryError, OverflowError) as error:
            raise RenderLimitExceeded("The rendered prompt is too large.", param="variables") from error
        except Exception as error:  # whatever a filter makes of a value it was not written for
            raise InvalidVariables(
                f"The prompt cannot be rendered with these variables ({type(error).__name__}).",
                param="variables",
            ) from error


def _mark_role_lines(jinja: PromptEnvironment, source: str, mark: str, fault: Fault) -> str:
    lines = source.split("\n")
    candidates = {n for n, line in enumerate(lines, start=1) if _ROLE_LINE.match(line)}
    if not candidates:
        return source
    opening = candidates & _plain_lines(jinja, source)
    check_role_lines(opening, fault)
    for number in opening:
        lines[number - 1] = f"{mark}{lines[number - 1].strip().removesuffix(':')}{_EDGE}"
    return "\n".join(lines)


def _plain_lines(jinja: PromptEnvironment, source: str) -> set[int]:
    """Numbers of the lines that hold text outside every block, comment and raw section."""
    plain: set[int] = set()
    depth = 0
    block: list[tuple[str, str]] = []
    for line, kind, value in jinja.lex(source):
        match kind:
            case "raw_begin":
                depth += 1
            case "raw_end":
                depth -= 1
            case "block_begin":
                block = []
            case "block_end":
                depth += _depth_change(block)
            case "data" if depth == 0:
                plain.update(range(line, line + value.count("\n") + 1))
            case _:
                block.append((kind, value))
    return plain


def _depth_change(block: list[tuple[str, str]]) -> int:
    """+1 for a tag that opens a block, -1 for one that ends it."""
    keyword = next((value for kind, value in block if kind == "name"), "")
    if keyword == "set":
        operator = next((value for kind, value in block if kind == "operator" and value in "=|"), "")
        return 0 if operator == "=" else 1
    if keyword in _OPENING:
        return 1
    return -1 if keyword.startswith("end") else 0


def check_partial(body: str, fault: Fault) -> None:
    """A partial is a template by itself: what it opens it closes.

    Raises:
        PromptSyntaxError: It is not; names the line.
    """
    try:
        _parsed(body, fault)
    except PromptSyntaxError:
        raise
    except TemplateSyntaxError as error:
        raise fault(_reason(error), error.lineno) from error
    except Exception as error:  # Jinja2's lexer lets whatever Python says of a literal through
        raise fault("the template cannot be compiled", None) from error


def _parsed(source: str, fault: Fault) -> nodes.Template:
    """The syntax tree.

    Raises:
        TemplateSyntaxError: It is no template.
        PromptSyntaxError: It nests more deeply than the parser can follow; names the line it came to.
    """
    parser = Parser(environment(), source)
    try:
        return parser.parse()
    except RecursionError as error:
        raise fault("the template is nested too deeply", parser.stream.current.lineno) from error


def _refuse_other_files(tree: nodes.Template, fault: Fault) -> None:
    """Includes are gone by now: their text stands in their place."""
    for node in tree.find_all((nodes.Include, nodes.Import, nodes.FromImport, nodes.Extends)):
        tag = type(node).__name__.lower().replace("from", "")
        raise fault(f"'{tag}' is not available in prompts; 'include' is", node.lineno)


def _refuse_unknown_words(tree: nodes.Template, fault: Fault) -> None:
    word = unknown_word(tree)
    if word is not None:
        raise fault(word.message, word.line)


def _reason(error: TemplateSyntaxError) -> str:
    """Jinja2's own words quote the file's text; a log or an answer must not."""
    if error.message and error.message.startswith(("Unexpected end of template", "unexpected end")):
        return "the template ends inside a tag or block"
    tag = _UNKNOWN_TAG.match(error.message or "")
    if tag and tag[1] in _TAGS:
        return f"there is no tag '{tag[1]}' here"
    return "the text is no valid template; write a literal brace pair as {{ '{{' }} or use a raw block"


def role_lines(jinja: PromptEnvironment, source: str) -> set[int]:
    """Numbers of the lines that open a message, counted from 1."""
    lines = source.split("\n")
    return {n for n in _plain_lines(jinja, source) if n <= len(lines) and _ROLE_LINE.match(lines[n - 1])}
