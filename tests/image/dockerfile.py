"""Reads a Dockerfile, and what .dockerignore lets a build see."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from dataclasses import dataclass, field
from fnmatch import translate
from pathlib import Path


@dataclass
class Stage:
    """From one FROM to the next: instructions in their order, as (name, rest)."""

    base: str
    name: str
    instructions: list[tuple[str, str]] = field(default_factory=list)

    def last(self, name: str) -> str:
        return [rest for instruction, rest in self.instructions if instruction == name][-1]

    def command(self, name: str) -> list[str]:
        """An instruction in exec form, as a list of arguments."""
        arguments: list[str] = json.loads(self.last(name)[self.last(name).index("[") :])
        return arguments


def read(path: Path) -> list[Stage]:
    """The stages of a Dockerfile."""
    lines = [line for line in path.read_text().splitlines() if line.strip() and not line.startswith("#")]
    stages: list[Stage] = []
    for line in re.sub(r"\\\n\s*", " ", "\n".join(lines)).splitlines():
        instruction, rest = line.split(maxsplit=1)
        if instruction == "FROM":
            base, _, name = rest.partition(" AS ")
            stages.append(Stage(base, name))
        else:
            stages[-1].instructions.append((instruction, rest))
    return stages


def flags(rest: str) -> tuple[dict[str, str], str]:
    """The leading --name=value of an instruction, and what follows."""
    found: dict[str, str] = {}
    while match := re.match(r"--(\S+?)=(\S+)\s+", rest):
        found[match[1]] = match[2]
        rest = rest[match.end() :]
    return found, rest


def sources(rest: str) -> tuple[list[str], str]:
    """What a COPY copies, and where to."""
    *copied, target = shlex.split(flags(rest)[1])
    return copied, target


def is_sent(path: str, patterns: list[str]) -> bool:
    """Whether .dockerignore lets a file in: the last pattern decides that fits it or a folder above it."""
    parts = path.split("/")
    above = ["/".join(parts[:n]) for n in range(1, len(parts) + 1)]
    sent = True
    for pattern in patterns:
        name = pattern.removeprefix("!")
        shapes = [translate(name)] + ([translate(name[3:])] if name.startswith("**/") else [])
        if any(re.match(shape, candidate) for shape in shapes for candidate in above):
            sent = pattern.startswith("!")
    return sent


def send_context(top: Path, files: list[str], target: Path) -> list[str]:
    """Copy what a build would see; returns the files' paths."""
    lines = (top / ".dockerignore").read_text().splitlines()
    patterns = [line for line in lines if line and not line.startswith("#")]
    sent = [path for path in files if is_sent(path, patterns)]
    for path in sent:
        (target / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(top / path, target / path)
    return sent
