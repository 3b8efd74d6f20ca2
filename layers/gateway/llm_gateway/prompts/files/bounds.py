"""How large and how deep a prompt file may be, so that reading one costs about a second and 100 MB at most.

Every bound counts something in the text, in the order of the text, and stops at the first thing too many:
before the work that grows with it begins, and with the line at which it was passed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from jinja2 import Environment, nodes
from jinja2.exceptions import TemplateSyntaxError

from llm_gateway.prompts.files.yaml_lines import PromptSyntaxError
from llm_gateway.validation import has_half_character

MAX_CHARS = 2_000_000
"""Of a template with its partials; the text is copied several times while it is compiled."""
MAX_LINES = 100_000
"""Of a template with its partials; the origin of each line is remembered for messages."""
MAX_TOKENS = 20_000
"""Words, signs and literals inside tags, and the texts between tags, partials included.

Jinja2 makes about 60 bytes of Python from each, which Python compiles: 30 µs and 5 KB for each of them.
"""
MAX_BRACKETS = 32
"""Brackets in one another; Jinja2's parser spends 14 frames of Python's stack on each."""
MAX_LOOPS = 16
"""Loops in one another; Python compiles 20."""
MAX_BRANCHES = 200
"""`elif` of one `if`; to Python's compiler each is inside the one before."""
MAX_DEPTH = 80
"""Levels of a template's syntax tree; the compiler and each analysis recurse into them."""
MAX_NUMBER_CHARS = 100
"""Of a number; reading the digits of a long one takes the square of their count."""
MAX_NAME_CHARS = 200
"""Of a name in a template; names of variables go into the index."""
MAX_ROLE_LINES = 1_000
"""Messages of one prompt; vendors take fewer."""
MAX_VARIABLES = 1_000
"""Required variables."""
MAX_VARIABLE_BYTES = 32_768
"""Of the names of all required variables; they are in the index, an item of which has 400 KB at most."""

_MAX_DIGITS = 10_000
_DIGITS = re.compile(r"0[xX][\da-fA-F_]++|[\d_]++")

Fault = Callable[[str, int | None], PromptSyntaxError]


@dataclass(frozen=True, slots=True)
class Size:
    """What bounds a template, counted.

    Attributes:
        chars: Characters.
        lines: Line breaks.
        tokens: Tokens as MAX_TOKENS counts them.
    """

    chars: int = 0
    lines: int = 0
    tokens: int = 0

    def __add__(self, other: Size) -> Size:
        return Size(self.chars + other.chars, self.lines + other.lines, self.tokens + other.tokens)

    def excess(self) -> str | None:
        """Which bound is passed, in words that follow `the template has`; None if none is."""
        for amount, limit, things in (
            (self.chars, MAX_CHARS, "characters"),
            (self.lines, MAX_LINES, "lines"),
            (self.tokens, MAX_TOKENS, "tokens in its tags"),
        ):
            if amount > limit:
                return f"more than {limit} {things}"
        return None


def measured(jinja: Environment, text: str, fault: Fault) -> Size:
    """The size of a template's text.

    Args:
        jinja: Takes the text apart.
        text: A template.
        fault: Makes the error from a reason and a line of `text`.

    Raises:
        PromptSyntaxError: A bound is passed; names the line.
    """
    size = Size(len(text), text.count("\n"))
    if size.chars > MAX_CHARS:
        raise fault(f"the template has {size.excess()}", text.count("\n", 0, MAX_CHARS) + 1)
    if size.lines > MAX_LINES:
        raise fault(f"the template has {size.excess()}", MAX_LINES + 1)
    _check_digits(text, fault)
    tokens = depth = 0
    try:
        for line, kind, value in jinja.lex(text):
            tokens += kind != "whitespace"
            depth += _nesting(kind, value)
            if problem := _token_problem(tokens, depth, kind, value):
                raise fault(problem, line)
    except TemplateSyntaxError:
        pass  # the compiler tells what and where; it stops at the same place
    return size + Size(tokens=tokens)


def check_tree(tree: nodes.Template, fault: Fault) -> None:
    """Refuse a template that nests too deeply, or that holds a text no answer can hold.

    Raises:
        PromptSyntaxError: Naming the line.
    """
    waiting: list[tuple[nodes.Node, int, int]] = [(tree, 1, 0)]
    while waiting:
        node, depth, loops = waiting.pop()
        loops += isinstance(node, nodes.For)
        if depth > MAX_DEPTH:
            raise fault(f"the template is nested more than {MAX_DEPTH} levels deep", node.lineno)
        if loops > MAX_LOOPS:
            raise fault(f"the template has more than {MAX_LOOPS} loops in one another", node.lineno)
        if isinstance(node, nodes.If) and len(node.elif_) > MAX_BRANCHES:
            line = node.elif_[MAX_BRANCHES].lineno
            raise fault(f"an 'if' has more than {MAX_BRANCHES} 'elif'; use a mapping", line)
        if isinstance(node, nodes.Const) and isinstance(node.value, str):
            _check_literal(node.value, node.lineno, fault)
        waiting += [(child, depth + 1, loops) for child in node.iter_child_nodes()]


def check_role_lines(numbers: set[int], fault: Fault) -> None:
    """Refuse a template with more messages than a vendor takes.

    Raises:
        PromptSyntaxError: Naming the line.
    """
    if len(numbers) > MAX_ROLE_LINES:
        raise fault(
            f"the template has more than {MAX_ROLE_LINES} role lines", sorted(numbers)[MAX_ROLE_LINES]
        )


def check_variables(lines: Mapping[str, int], fault: Fault) -> None:
    """Refuse a template whose variables the index cannot list.

    Args:
        lines: Line of each required dotted name, in order of appearance.
        fault: Makes the error from a reason and a line.

    Raises:
        PromptSyntaxError: Naming the line.
    """
    size = 0
    for number, (name, line) in enumerate(lines.items(), start=1):
        size += len(name.encode())
        if number > MAX_VARIABLES:
            raise fault(f"the template needs more than {MAX_VARIABLES} variables", line)
        if size > MAX_VARIABLE_BYTES:
            reason = f"the names of the template's variables are longer than {MAX_VARIABLE_BYTES} bytes"
            raise fault(reason, line)


def _check_digits(text: str, fault: Fault) -> None:
    """Jinja2's patterns for numbers remember every digit that they may have to give back."""
    for run in _DIGITS.finditer(text):
        if run.end() - run.start() > _MAX_DIGITS:
            reason = f"there are more than {_MAX_DIGITS} digits in a row"
            raise fault(reason, text.count("\n", 0, run.start()) + 1)


def _nesting(kind: str, value: str) -> int:
    if kind != "operator":
        return 0
    return (value in ("(", "[", "{")) - (value in (")", "]", "}"))


def _token_problem(tokens: int, depth: int, kind: str, value: str) -> str | None:
    if tokens > MAX_TOKENS:
        return f"the template has {Size(tokens=tokens).excess()}"
    if depth > MAX_BRACKETS:
        return f"the template has more than {MAX_BRACKETS} brackets in one another"
    if kind in ("integer", "float") and len(value) > MAX_NUMBER_CHARS:
        return f"a number is longer than {MAX_NUMBER_CHARS} characters"
    if kind == "name" and len(value) > MAX_NAME_CHARS:
        return f"a name is longer than {MAX_NAME_CHARS} characters"
    return None


def _check_literal(text: str, line: int, fault: Fault) -> None:
    if has_half_character(text):
        reason = "a text holds half a character (\\ud800 to \\udfff); write the character itself"
        raise fault(reason, line)
