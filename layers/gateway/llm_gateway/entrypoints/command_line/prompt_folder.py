"""Prompt files on disk, before they are uploaded."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from llm_gateway.adapters.local.local_file import is_folder, read_whole
from llm_gateway.adapters.local.prompt_files import MOST_BYTES
from llm_gateway.adapters.local.prompt_tree import Tree, look_at, reason_of
from llm_gateway.errors import InvalidPath, InvalidVariables
from llm_gateway.json_schema.values import Json
from llm_gateway.prompts.files.path import ignored_because, is_partial, is_prompt_file
from llm_gateway.validation import has_half_character


@dataclass(frozen=True, slots=True)
class PromptFolder:
    """A folder of prompts on disk, and those of its files that a command is about.

    Attributes:
        root: The top; paths of prompts are relative to it.
        paths: Paths of the files that were named, partials among them.
        files: Every prompt file and partial of the folder, by path.
    """

    root: Path
    paths: Sequence[str]
    files: Mapping[str, bytes]

    @classmethod
    def of(cls, targets: Sequence[Path], root: Path | None) -> PromptFolder:
        """The folder that files and folders are in.

        Args:
            targets: Files and folders on disk.
            root: The top; if None a named folder itself, or for a file the nearest folder above it that
                is called `prompts`, else its own.

        Raises:
            InvalidPath: A target does not exist, is ignored, cannot be read or is not below the top.
        """
        for target in targets:
            _check_there(target)
        top = (root or _top(targets[0])).resolve()
        tree = _tree(top)
        files = {path: _read(path, file.real) for path, file in sorted(tree.files.items())}
        paths: list[str] = []
        for target in targets:
            place = target.resolve() if is_folder(target) else target.parent.resolve() / target.name
            if not place.is_relative_to(top):
                raise InvalidPath(f"'{target}' is not below '{top}'; name the top by --root.", param="path")
            name = place.relative_to(top).as_posix()
            below = [path for path in files if name in (".", path) or path.startswith(f"{name}/")]
            if not below:
                raise InvalidPath(_why_nothing(target, name, tree), param="path")
            paths += below
        return cls(top, list(dict.fromkeys(paths)), files)

    @property
    def prompts(self) -> list[str]:
        """The named files that can be called."""
        return [path for path in self.paths if not is_partial(path)]


def read_variables(pairs: Sequence[str], file: Path | None) -> dict[str, Json]:
    """Variables from `name=value` pairs over those of a JSON file; a value is JSON if it can be read so.

    Raises:
        InvalidVariables: A pair has no `=`, or the file is no JSON object.
    """
    variables: dict[str, Json] = {}
    if file is not None:
        loaded = _json_or_text(_variables_in(file).decode(errors="surrogateescape"))
        if not isinstance(loaded, dict):
            raise InvalidVariables(f"'{file}' must hold one JSON object.", param="variables")
        variables = loaded
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not (name and equals):
            raise InvalidVariables("Give variables as name=value, for example user.name=Ada.", param="var")
        _put(variables, name.split("."), _json_or_text(value))
    if has_half_character(json.dumps(variables, ensure_ascii=False)):
        raise InvalidVariables("A variable holds half a character (U+D800 to U+DFFF).", param="variables")
    return variables


def _variables_in(file: Path) -> bytes:
    try:
        return read_whole(file, MOST_BYTES)
    except OSError as error:
        raise InvalidVariables(f"'{file}' cannot be read: {reason_of(error)}.", param="variables") from error


def _put(variables: dict[str, Json], steps: list[str], value: Json) -> None:
    for step in steps[:-1]:
        inner = variables.setdefault(step, {})
        if not isinstance(inner, dict):
            raise InvalidVariables(f"'{step}' is given both as a value and with fields.", param="var")
        variables = inner
    variables[steps[-1]] = value


def _json_or_text(value: str) -> Json:
    try:
        read: Json = json.loads(value)
    except (ValueError, RecursionError):
        return value
    return read


def _check_there(target: Path) -> None:
    try:
        target.stat()
    except FileNotFoundError:
        raise InvalidPath(f"There is no file or folder '{target}'.", param="path") from None
    except OSError as error:
        raise InvalidPath(f"'{target}' cannot be read: {reason_of(error)}.", param="path") from error


def _top(target: Path) -> Path:
    if is_folder(target):
        return target
    above = (target.parent.resolve() / target.name).parents  # where it is named, not where a link leads
    return next((folder for folder in above if folder.name == "prompts"), above[0])


def _tree(top: Path) -> Tree:
    """Every prompt file below the top; one that cannot be looked at is no reason to pass over it."""
    try:
        tree = look_at(top)
    except OSError as error:
        raise InvalidPath(f"'{top}' cannot be read: {reason_of(error)}.", param="path") from error
    for path, reason in tree.unreadable.items():
        if is_prompt_file(path) or is_folder(top / path):
            raise InvalidPath(f"'{path}' cannot be read: {reason}.", param="path")
    return tree


def _read(path: str, real: str) -> bytes:
    try:
        return read_whole(real, MOST_BYTES)
    except OSError as error:
        raise InvalidPath(f"'{path}' cannot be read: {reason_of(error)}.", param="path") from error


def _why_nothing(target: Path, name: str, tree: Tree) -> str:
    """A sentence for a target in which there is no prompt file."""
    if is_folder(target):
        return f"'{target}' holds no .prompt, .md or .txt file that is not hidden."
    reason = ignored_because(name) or tree.ignored.get(name, "it is no prompt file of this folder")
    return f"'{target}' is ignored, because {reason}."
