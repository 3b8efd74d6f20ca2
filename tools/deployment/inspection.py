"""Looks into built artefacts: what Lambda would only say once they are deployed."""

from __future__ import annotations

import ast
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

from deployment.targets import Target

ZIPPED_BUDGET_MB = 30
"""Most that one artefact may weigh as SAM uploads it; Lambda takes 50 MB of a zip that is not in a bucket."""
UNZIPPED_BUDGET_MB = 85
"""Most that a function and its layers may weigh together; Lambda takes 250 MB."""

_MB = 1_000_000
_MACHINES = {"arm64": 0xB7, "x86_64": 0x3E}  # e_machine of the ELF header
_UNCHECKED_HASH = 1  # flags of a .pyc, PEP 552


@dataclass(frozen=True, slots=True)
class Artefacts:
    """What `sam build` has made.

    Attributes:
        functions: Folder of each function's code by logical id.
        handlers: Its handler, such as `app.handler`.
        layers: Folder of each layer by logical id.
    """

    functions: Mapping[str, Path]
    handlers: Mapping[str, str]
    layers: Mapping[str, Path]

    @property
    def folders(self) -> dict[str, Path]:
        """All of them."""
        return {**self.functions, **self.layers}


def artefacts(template: Mapping[str, Any], built: Path) -> Artefacts:
    """Where everything lies, from the built template."""
    functions, handlers, layers = {}, {}, {}
    everywhere = template["Globals"]["Function"]
    for name, resource in template["Resources"].items():
        if resource["Type"] == "AWS::Serverless::Function":
            properties = {**everywhere, **resource["Properties"]}
            functions[name] = built / properties["CodeUri"]
            handlers[name] = properties["Handler"]
        elif resource["Type"] == "AWS::Serverless::LayerVersion":
            layers[name] = built / resource["Properties"]["ContentUri"]
    return Artefacts(functions, handlers, layers)


def problems(found: Artefacts, target: Target, *, compiled: bool) -> list[str]:
    """A sentence for each thing that is wrong.

    Args:
        found: What was built.
        target: What it was built for.
        compiled: Whether there was a Python of the target to compile bytecode with.
    """
    sentences = [*_handlers(found), *_sizes(found)]
    for name, folder in found.folders.items():
        sentences += _bytecode(name, folder, target, compiled)
        sentences += _binaries(name, folder, target)
    return sentences


def _handlers(found: Artefacts) -> Iterator[str]:
    for name, handler in found.handlers.items():
        module, _, attribute = handler.rpartition(".")
        path = found.functions[name] / f"{module.replace('.', '/')}.py"
        if not path.is_file():
            yield f"{name}: {handler} cannot be imported, because {path.name} is missing."
            continue
        try:
            tree = ast.parse(path.read_bytes())
        except (SyntaxError, ValueError) as error:
            yield f"{name}: {path.name} is no Python: {error}."
            continue
        if attribute not in _names(tree):
            yield f"{name}: {path.name} does not define {attribute}."
        for module in _product_modules(tree):
            if not any(_holds(folder / "python", module) for folder in found.layers.values()):
                yield f"{name}: {path.name} imports {module}, which no layer holds."


def _names(tree: ast.Module) -> set[str]:
    """Names that a module binds at its top."""
    bound = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    for node in tree.body:
        if isinstance(node, ast.Assign | ast.AnnAssign | ast.Import | ast.ImportFrom):
            bound |= {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}
            bound |= {part.asname or part.name for part in ast.walk(node) if isinstance(part, ast.alias)}
    return bound


def _product_modules(tree: ast.Module) -> set[str]:
    found = {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    return {name for name in found if name.partition(".")[0] == "llm_gateway"}


def _holds(folder: Path, module: str) -> bool:
    path = folder / module.replace(".", "/")
    return path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()


def _bytecode(name: str, folder: Path, target: Target, compiled: bool) -> Iterator[str]:
    tag = f"cpython-{target.python.replace('.', '')}"
    wanted = {path.parent / "__pycache__" / f"{path.stem}.{tag}.pyc" for path in folder.rglob("*.py")}
    present = set(folder.rglob("*.pyc"))
    for path in sorted(present - wanted)[:3]:
        yield f"{name}: {path.relative_to(folder)} is bytecode that {target.runtime} never reads."
    missing = sorted(wanted - present) if compiled else []
    if missing:
        first = missing[0].relative_to(folder)
        yield f"{name}: {len(missing)} modules have no bytecode of {target.runtime}, such as {first}."
    for path in sorted(present & wanted):
        if path.read_bytes()[4:8] != _UNCHECKED_HASH.to_bytes(4, "little"):
            yield f"{name}: {path.relative_to(folder)} depends on the time of its file, which a zip changes."
            return


def _binaries(name: str, folder: Path, target: Target) -> Iterator[str]:
    tag = f"cpython-{target.python.replace('.', '')}"
    for path in sorted(folder.rglob("*.so*")):  # libssl.so.3 among them
        if not path.is_file():
            continue
        with path.open("rb") as file:
            header = file.read(20)
        if int.from_bytes(header[18:20], "little") != _MACHINES[target.architecture]:
            yield f"{name}: {path.relative_to(folder)} is not built for {target.architecture}."
        if ".cpython-" in path.name and tag not in path.name:
            yield f"{name}: {path.relative_to(folder)} is not built for {target.runtime}."


def _sizes(found: Artefacts) -> Iterator[str]:
    for name, folder in found.folders.items():
        zipped = zipped_mb(folder)
        if zipped > ZIPPED_BUDGET_MB:
            yield f"{name} weighs {zipped:.1f} MB zipped; the budget is {ZIPPED_BUDGET_MB} MB."
    layers = sum(unzipped_mb(folder) for folder in found.layers.values())
    for name, folder in found.functions.items():
        unzipped = layers + unzipped_mb(folder)
        if unzipped > UNZIPPED_BUDGET_MB:
            yield f"{name} and its layers weigh {unzipped:.1f} MB; the budget is {UNZIPPED_BUDGET_MB} MB."


def unzipped_mb(folder: Path) -> float:
    """Size of all files in a folder, in millions of bytes."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / _MB


class _Counter:
    """A file that only counts what is written to it."""

    def __init__(self) -> None:
        self.size = 0

    def write(self, data: bytes) -> int:
        self.size += len(data)
        return len(data)

    def flush(self) -> None:
        return


def zipped_mb(folder: Path) -> float:
    """Size of the zip that SAM uploads, in millions of bytes."""
    counter = _Counter()
    with zipfile.ZipFile(cast(BinaryIO, counter), "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.rglob("*")):
            archive.write(path, path.relative_to(folder))
    return counter.size / _MB
