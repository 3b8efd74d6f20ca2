"""Generates the Python of the gRPC contract from proto/, or checks that it is current.

python -m protobuf           write it
python -m protobuf --check   fail if it is not what the contract says
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parent.parent
CONTRACT = ROOT / "proto"
SOURCE = "llm_gateway/v1/llm_gateway.proto"
PACKAGE = "llm_gateway.entrypoints.grpc_api.generated"
GENERATED = ROOT / "layers" / "gateway" / PACKAGE.replace(".", "/")


def current() -> Mapping[str, str]:
    """The generated files by name, as the contract has them now."""
    with tempfile.TemporaryDirectory() as folder:
        outputs = [f"--{kind}_out={folder}" for kind in ("python", "mypy", "grpc_python", "mypy_grpc")]
        # The mypy plugins are commands of this interpreter's environment, wherever that is.
        plugins = [
            f"--plugin={name}={Path(sys.executable).parent / name}"
            for name in ("protoc-gen-mypy", "protoc-gen-mypy_grpc")
        ]
        compiler = [sys.executable, "-m", "grpc_tools.protoc", f"--proto_path={CONTRACT}"]
        subprocess.run([*compiler, *plugins, *outputs, SOURCE], check=True, capture_output=True, text=True)
        made = (Path(folder) / SOURCE).parent.iterdir()
        return {path.name: _importable(path.read_text(encoding="utf-8")) for path in made}


def _importable(source: str) -> str:
    """The compiler names modules after the contract's package, which in Python is the product's own."""
    return source.replace("from llm_gateway.v1 import", f"from {PACKAGE} import")


def main() -> int:
    """Write or check; the exit code says whether all is well."""
    files = current()
    if "--check" not in sys.argv:
        GENERATED.mkdir(exist_ok=True)
        for name, text in files.items():
            (GENERATED / name).write_text(text, encoding="utf-8")
        print(f"wrote {len(files)} files")
        return 0
    written = {
        path.name: path.read_text(encoding="utf-8")
        for path in GENERATED.glob("llm_gateway_pb2*")
        if path.suffix in (".py", ".pyi")
    }
    if written == files:
        print("the generated code is that of the contract")
        return 0
    print("the generated code is not that of proto/: run `make proto` and commit the result")
    return 1


if __name__ == "__main__":
    sys.exit(main())
