"""Every pin of the layer has a wheel for every Python and processor that a deployment may choose."""

from __future__ import annotations

from pathlib import Path

import pytest
from typing_extensions import override

from deployment import targets, wheels
from deployment.targets import Target
from tests.tools.test_targets import ROOT, TEMPLATE

UV = ROOT / ".venv-uv" / "bin" / "uv"


@pytest.fixture(autouse=True)
def _uv(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UV", str(UV))
    monkeypatch.setenv("UV_NO_CONFIG", "1")


def test_every_pin_has_a_wheel_for_every_supported_target() -> None:
    assert wheels.problems(targets.supported(TEMPLATE)) == []


def test_a_pin_without_a_wheel_is_named_with_the_target() -> None:
    """The package that once could not be built: Lambda's python3.11 has an older C library."""
    [line] = [line for line in wheels.PINS.read_text().splitlines() if line.startswith("jsonschema-rs==")]
    pin = line.split()[0]
    target = _Old("python3.11", "arm64")
    [sentence] = wheels.problems([target])
    assert sentence.startswith(f"{pin} has no wheel for python3.11 on arm64 (aarch64-manylinux2014): ")


class _Old(Target):
    @property
    @override
    def platform(self) -> str:
        return "aarch64-manylinux2014"


def test_a_package_without_any_wheel_is_named(tmp_path: Path) -> None:
    pins = tmp_path / "requirements.txt"
    pins.write_text(f"docopt==0.6.2 --hash=sha256:{'0' * 64}\n")
    [sentence] = wheels.problems([Target("python3.13", "arm64")], pins)
    assert "docopt==0.6.2" in sentence
    assert "python3.13 on arm64" in sentence
