"""What is wrong with built artefacts is found: each test breaks a build that is right in one way."""

from __future__ import annotations

import os
import py_compile
import shutil
import struct
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from deployment import importing, inspection
from deployment.inspection import Artefacts
from deployment.targets import Target

HERE = f"{sys.version_info.major}.{sys.version_info.minor}"
TARGET = Target(f"python{HERE}", "arm64")
TAG = f"cpython-{HERE.replace('.', '')}"
APP = "from llm_gateway.work import handler\n"
ELF = struct.pack("<4s14xH", b"\x7fELF", 0xB7)
TEMPLATE = {
    "Parameters": {"Environment": {"Default": "dev"}},
    "Globals": {
        "Function": {"Handler": "app.handler", "Environment": {"Variables": {"NAME": {"Ref": "Environment"}}}}
    },
    "Resources": {
        "WorkFunction": {"Type": "AWS::Serverless::Function", "Properties": {"CodeUri": "WorkFunction"}},
        "Layer": {"Type": "AWS::Serverless::LayerVersion", "Properties": {"ContentUri": "Layer"}},
        "Table": {"Type": "AWS::DynamoDB::Table", "Properties": {}},
    },
}


def write(path: Path, text: str) -> Path:
    """A module with the bytecode that the makefiles compile."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    py_compile.compile(
        str(path), doraise=True, invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH
    )
    return path


@pytest.fixture
def built(tmp_path: Path) -> Path:
    write(tmp_path / "WorkFunction" / "app.py", APP)
    write(tmp_path / "Layer" / "python" / "llm_gateway" / "__init__.py", "")
    write(
        tmp_path / "Layer" / "python" / "llm_gateway" / "work.py", "import os\nhandler = os.environ['NAME']\n"
    )
    (tmp_path / "Layer" / "python" / f"fast.{TAG}-aarch64-linux-gnu.so").write_bytes(ELF)
    (tmp_path / "Layer" / "python" / "stable.abi3.so").write_bytes(ELF)
    return tmp_path


def found(built: Path) -> Artefacts:
    return inspection.artefacts(TEMPLATE, built)


def problems(built: Path, *, compiled: bool = True) -> list[str]:
    return inspection.problems(found(built), TARGET, compiled=compiled)


def test_a_whole_build_has_no_problem(built: Path) -> None:
    assert problems(built) == []
    assert found(built).folders.keys() == {"WorkFunction", "Layer"}


def without_handler(built: Path) -> None:
    write(built / "WorkFunction" / "app.py", "handle = None\n")


def without_app(built: Path) -> None:
    shutil.rmtree(built / "WorkFunction")
    (built / "WorkFunction").mkdir()


def without_module(built: Path) -> None:
    work = built / "Layer" / "python" / "llm_gateway" / "work.py"
    work.unlink()
    (work.parent / "__pycache__" / f"work.{TAG}.pyc").unlink()


def without_bytecode(built: Path) -> None:
    shutil.rmtree(built / "Layer" / "python" / "llm_gateway" / "__pycache__")


def with_foreign_bytecode(built: Path) -> None:
    (built / "Layer" / "python" / "llm_gateway" / "__pycache__" / "work.cpython-37.pyc").write_bytes(b"")


def with_bytecode_beside_its_source(built: Path) -> None:
    (built / "WorkFunction" / "app.pyc").write_bytes(b"")


def with_bytecode_that_looks_at_times(built: Path) -> None:
    mode = py_compile.PycInvalidationMode.TIMESTAMP
    py_compile.compile(str(built / "WorkFunction" / "app.py"), invalidation_mode=mode)


def with_another_processor(built: Path) -> None:
    (built / "Layer" / "python" / "stable.abi3.so").write_bytes(struct.pack("<4s14xH", b"\x7fELF", 0x3E))


def with_a_library_of_another_processor(built: Path) -> None:
    (built / "Layer" / "python" / "libssl.so.3").write_bytes(struct.pack("<4s14xH", b"\x7fELF", 0x3E))


def with_half_a_binary(built: Path) -> None:
    (built / "Layer" / "python" / "stable.abi3.so").write_bytes(ELF[:10])


def with_what_is_no_python(built: Path) -> None:
    (built / "WorkFunction" / "app.py").write_text("def handler(:\n")


def with_another_python(built: Path) -> None:
    (built / "Layer" / "python" / "slow.cpython-37-aarch64-linux-gnu.so").write_bytes(ELF)


def too_big_zipped(built: Path) -> None:
    (built / "Layer" / "data").write_bytes(os.urandom(inspection.ZIPPED_BUDGET_MB * 1_000_000 + 1))


def too_big_unzipped(built: Path) -> None:
    with (built / "Layer" / "data").open("wb") as file:
        file.truncate(inspection.UNZIPPED_BUDGET_MB * 1_000_000)


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (without_handler, "WorkFunction: app.py does not define handler."),
        (without_app, "WorkFunction: app.handler cannot be imported, because app.py is missing."),
        (without_module, "WorkFunction: app.py imports llm_gateway.work, which no layer holds."),
        (without_bytecode, f"Layer: 2 modules have no bytecode of python{HERE}"),
        (with_foreign_bytecode, "work.cpython-37.pyc is bytecode that"),
        (with_bytecode_beside_its_source, "app.pyc is bytecode that"),
        (with_bytecode_that_looks_at_times, "depends on the time of its file, which a zip changes."),
        (with_another_processor, "Layer: python/stable.abi3.so is not built for arm64."),
        (with_a_library_of_another_processor, "Layer: python/libssl.so.3 is not built for arm64."),
        (with_half_a_binary, "Layer: python/stable.abi3.so is not built for arm64."),
        (with_what_is_no_python, "WorkFunction: app.py is no Python: "),
        (with_another_python, f"is not built for python{HERE}."),
        (too_big_zipped, "MB zipped; the budget is"),
        (too_big_unzipped, "WorkFunction and its layers weigh"),
    ],
)
def test_what_is_wrong_is_one_sentence(broken: Callable[[Path], None], said: str, built: Path) -> None:
    broken(built)
    [sentence] = problems(built)
    assert said in sentence


def test_where_nothing_could_compile_missing_bytecode_is_no_problem_but_foreign_bytecode_is(
    built: Path,
) -> None:
    without_bytecode(built)
    assert problems(built, compiled=False) == []
    with_bytecode_beside_its_source(built)
    assert len(problems(built, compiled=False)) == 1


def test_handlers_are_imported_as_lambda_imports_them_and_the_error_is_named(built: Path) -> None:
    assert importing.problems(found(built), TEMPLATE, Path(sys.executable)) == []
    write(built / "Layer" / "python" / "llm_gateway" / "work.py", "import grpc\n")
    [sentence] = importing.problems(found(built), TEMPLATE, Path(sys.executable))
    assert sentence == (
        "WorkFunction: app.handler cannot be imported: ModuleNotFoundError: No module named 'grpc'"
    )


def test_only_a_machine_of_the_targets_kind_imports() -> None:
    assert not (
        importing.runs_here(Target("python3.13", "arm64"))
        and importing.runs_here(Target("python3.13", "x86_64"))
    )
