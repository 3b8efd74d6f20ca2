"""Includes: the body of a prompt put together from its own file and its partials, before it is compiled.

`{% include "_tone.md" %}` is replaced by the partial's text. What results is one template, so that
variables, macros, `set`, role lines and the bounds of rendering work in a partial as if its text stood
in the prompt itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from jinja2.exceptions import TemplateSyntaxError

from llm_gateway.prompts.files.bounds import Size, measured
from llm_gateway.prompts.files.front_matter import PromptSyntaxError, split_front_matter
from llm_gateway.prompts.files.path import is_partial, is_prompt_file
from llm_gateway.prompts.files.yaml_lines import reading
from llm_gateway.prompts.rendering.sandbox import environment

MAX_PARTIALS = 64
_MAX_DEPTH = 16
_ONE = Size(tokens=1)  # what an inclusion costs beside its text, which may be empty
_INVISIBLE = {"whitespace"}


@dataclass(frozen=True, slots=True)
class Include:
    """One include tag.

    Attributes:
        path: The partial's path.
        line: Line of the body, counted from 1.
        start: Where the text that the partial replaces begins in the body.
        end: Where it ends.
    """

    path: str
    line: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Source:
    """One file, taken apart but not compiled.

    Attributes:
        path: Its path.
        front: The text of its front matter, None if it has none.
        body: The rest, lines ended by a single newline.
        offset: Lines of the file before the body.
        includes: The include tags of the body, in order.
        size_bytes: Size of the file.
        size: Size of the body, include tags among it.
    """

    path: str
    front: str | None
    body: str
    offset: int
    includes: tuple[Include, ...]
    size_bytes: int
    size: Size = field(default_factory=Size)

    def error(self, reason: str, line: int | None) -> PromptSyntaxError:
        """What is wrong with this file, at a line of its body."""
        where = self.path if is_partial(self.path) else None
        return PromptSyntaxError(reason, None if line is None else line + self.offset, where)


@dataclass(frozen=True, slots=True)
class Composition:
    """A body with its partials in place.

    Attributes:
        text: The whole.
        origins: For each of its lines the file it comes from and the line there, of the body.
    """

    text: str
    origins: tuple[tuple[Source, int], ...]

    def error(self, reason: str, line: int | None) -> PromptSyntaxError:
        """What is wrong at a line of the whole, told with the file and the line its author knows."""
        if line is None:
            return PromptSyntaxError(reason)
        source, own_line = self.origins[min(line, len(self.origins)) - 1]
        return source.error(reason, own_line)


def read_source(path: str, data: bytes) -> Source:
    """Take a prompt file or a partial apart.

    Raises:
        PromptSyntaxError: It is not UTF-8 text, its body is too large, or an include tag cannot be
            understood.
    """
    where = path if is_partial(path) else None
    with reading(where):
        front, body, offset = split_front_matter(_decode(data, where))
        bare = Source(path, front, body, offset, (), len(data))
        size = measured(environment(), body, bare.error)
        includes = tuple(_includes(bare)) if "include" in body else ()
        return replace(bare, includes=includes, size=size)


def included(root: Source, files: Mapping[str, bytes]) -> dict[str, Source]:
    """Every partial that `root` includes, directly or not, as far as it is among `files`.

    Raises:
        PromptSyntaxError: As `read_source`, or they are too large together.
    """
    found: dict[str, Source] = {}
    waiting = [root]
    size = root.size
    while waiting:
        including = waiting.pop()
        for include in including.includes:
            if include.path not in found and include.path in files:
                found[include.path] = read_source(include.path, files[include.path])
                size += found[include.path].size
                check_growth(size, including, include)
                waiting.append(found[include.path])
    return found


def check_growth(size: Size, including: Source, include: Include) -> None:
    """Refuse an inclusion that makes a prompt larger than it may be.

    Raises:
        PromptSyntaxError: Naming the line of the include tag.
    """
    if excess := size.excess():
        raise including.error(f"the prompt is too large with its partials: {excess}", include.line)


def compose(root: Source, partials: Mapping[str, Source]) -> Composition:
    """Put every partial where it is included.

    Raises:
        PromptSyntaxError: A partial is missing, includes itself, or the whole grows too large.
    """
    if len(partials) > MAX_PARTIALS:
        raise root.error(f"the prompt includes more than {MAX_PARTIALS} partials", None)
    pieces = list(_Composer(root, partials).pieces(root, (root.path,)))
    return Composition("".join(text for text, _, _ in pieces), tuple(_origins(pieces)))


def _decode(data: bytes, where: str | None) -> str:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise PromptSyntaxError("the file is not UTF-8 text", line, where) from error
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise PromptSyntaxError("the file holds a NUL character", line, where)
    return text.replace("\r\n", "\n").replace("\r", "\n")


_Piece = tuple[str, Source, int]


class _Composer:
    """Puts partials in place, and counts what grows with each: every link of a chain may double it."""

    def __init__(self, root: Source, partials: Mapping[str, Source]) -> None:
        self._partials = partials
        self._size = root.size

    def pieces(self, source: Source, chain: tuple[str, ...]) -> Iterator[_Piece]:
        """The texts that make the whole, each with its file and its first line there."""
        position, line = 0, 1
        for include in source.includes:
            text = source.body[position : include.start]
            yield text, source, line
            yield from self.pieces(self._partial(source, include, chain), (*chain, include.path))
            line += source.body.count("\n", position, include.end)
            position = include.end
        rest = source.body[position:]
        if len(chain) > 1:  # the line break that ends a partial is its file's, not its text's
            rest = rest.removesuffix("\n")
        yield rest, source, line

    def _partial(self, source: Source, include: Include, chain: tuple[str, ...]) -> Source:
        if include.path in chain or len(chain) > _MAX_DEPTH:
            raise source.error(f"'{include.path}' includes itself, or too deeply", include.line)
        if include.path not in self._partials:
            raise source.error(f"there is no partial '{include.path}'", include.line)
        partial = self._partials[include.path]
        self._size += partial.size + _ONE
        check_growth(self._size, source, include)
        return partial


def _origins(pieces: list[_Piece]) -> Iterator[tuple[Source, int]]:
    at_line_start = True
    last: tuple[Source, int] | None = None
    for text, source, first_line in pieces:
        lines = text.split("\n")
        for number, line in enumerate(lines):
            at_line_start = at_line_start or number > 0
            last = (source, first_line + number)
            if at_line_start and (line or number < len(lines) - 1):
                yield last
                at_line_start = False
    if at_line_start and last is not None:
        yield last


def _includes(source: Source) -> Iterator[Include]:
    """The include tags outside comments and raw sections, as Jinja2's own lexer sees them."""
    position = start = 0
    tag: list[tuple[str, str]] = []
    try:
        for line, kind, value in environment().lex(source.body):
            if kind in _INVISIBLE:
                continue
            at = source.body.index(value, position)  # what the lexer leaves out is white space
            position = at + len(value)
            if kind == "block_begin":
                start, tag = at, []
            elif kind != "block_end":
                tag.append((kind, value))
            elif tag and tag[0] == ("name", "include"):
                path = _included_path(source, tag, line)
                yield Include(path, line, _start(source.body, start), _end(source.body, at))
    except TemplateSyntaxError:
        return  # the compiler tells what and where


def _included_path(source: Source, tag: list[tuple[str, str]], line: int) -> str:
    if len(tag) != 2 or tag[1][0] != "string" or "\\" in tag[1][1]:
        raise source.error("'include' takes one partial's path in quotes and nothing else", line)
    path = tag[1][1][1:-1]
    if not (is_prompt_file(path) and is_partial(path)):
        reason = "'include' takes a partial: a prompt file whose name or folder begins with an underscore"
        raise source.error(reason, line)
    return path


def _start(body: str, start: int) -> int:
    """`{%-` takes the white space before it away, as everywhere; blanks before a lone tag go as well."""
    if body.startswith("{%-", start):
        while start and body[start - 1].isspace():
            start -= 1
        return start
    line_start = body.rfind("\n", 0, start) + 1
    blank = not body[line_start:start].strip() and not body.startswith("{%+", start)
    return line_start if blank else start


def _end(body: str, at: int) -> int:
    """Unlike after other tags the line break stays: the partial's text takes the tag's place."""
    end = body.index("%}", at) + 2
    if body.startswith("-%}", at):
        while end < len(body) and body[end].isspace():
            end += 1
    return end
