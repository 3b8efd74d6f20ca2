"""Prompt files on disk, before they are uploaded."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from llm_gateway.errors import InvalidPath, InvalidVariables
from llm_gateway.models import Json
from llm_gateway.prompts.path import is_partial, is_prompt_file
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
            InvalidPath: A target does not exist, is no prompt file or is not below the top.
        """
        for target in targets:
            if not target.exists():
                raise InvalidPath(f"There is no file or folder '{target}'.", param="path")
        top = (root or _top(targets[0])).resolve()
        files = {path: (top / path).read_bytes() for path in _walk(top)}
        paths: list[str] = []
        for target in targets:
            if not target.resolve().is_relative_to(top):
                raise InvalidPath(f"'{target}' is not below '{top}'; name the top by --root.", param="path")
            name = target.resolve().relative_to(top).as_posix()
            below = [path for path in files if name in (".", path) or path.startswith(f"{name}/")]
            if not below:
                raise InvalidPath(f"'{target}' is or holds no .prompt, .md or .txt file.", param="path")
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
        loaded = _json_or_text(file.read_bytes().decode(errors="surrogateescape"))
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


def _top(target: Path) -> Path:
    if target.is_dir():
        return target
    above = target.resolve().parents
    return next((folder for folder in above if folder.name == "prompts"), above[0])


def _walk(top: Path) -> Iterator[str]:
    for file in sorted(top.rglob("*")):
        path = file.relative_to(top).as_posix()
        hidden = any(part.startswith(".") for part in path.split("/"))
        if file.is_file() and is_prompt_file(path) and not hidden:
            yield path
