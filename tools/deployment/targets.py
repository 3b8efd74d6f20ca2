"""The Python and the processor that artefacts are built for, derived from the template's parameters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

from typing_extensions import override

from deployment.refusals import RefusedError

PLATFORMS = {"arm64": "aarch64-manylinux_2_28", "x86_64": "x86_64-manylinux_2_28"}
"""uv's platform for each value of the parameter Architecture.

Lambda's python3.12 and newer run on Amazon Linux 2023, whose glibc is 2.34; manylinux_2_28 asks for 2.28.
"""


@dataclass(frozen=True, slots=True)
class Target:
    """What artefacts are built for.

    Attributes:
        runtime: Value of the template's parameter Runtime, such as `python3.13`.
        architecture: Value of its parameter Architecture, such as `arm64`.
    """

    runtime: str
    architecture: str

    @property
    def python(self) -> str:
        """Version of the Python, such as `3.13`."""
        return self.runtime.removeprefix("python")

    @property
    def platform(self) -> str:
        """Name of the platform for uv."""
        return PLATFORMS[self.architecture]

    @property
    def parameters(self) -> dict[str, str]:
        """The template's parameters that say the same."""
        return {"Runtime": self.runtime, "Architecture": self.architecture}

    @override
    def __str__(self) -> str:
        return f"{self.runtime} on {self.architecture}"


def supported(template: Mapping[str, Any]) -> list[Target]:
    """Every pair that the template's parameters allow."""
    declared = template["Parameters"]
    allowed = [declared[name]["AllowedValues"] for name in ("Runtime", "Architecture")]
    return [Target(runtime, architecture) for runtime, architecture in product(*allowed)]


def default(template: Mapping[str, Any]) -> Target:
    """What is built when a deployment says nothing else."""
    declared = template["Parameters"]
    return Target(declared["Runtime"]["Default"], declared["Architecture"]["Default"])


def chosen(
    template: Mapping[str, Any], section: str, parameters: Mapping[str, str], asked: Mapping[str, str]
) -> Target:
    """What a deployment is built for.

    Args:
        template: The template, whose defaults hold for what is given nowhere.
        section: Name of the deployment's section in samconfig.toml, for the sentence.
        parameters: The parameters that the section sets.
        asked: Values of Runtime and Architecture from the command line of make; empty ones do not count.

    Raises:
        RefusedError: The two disagree, or the template does not allow the pair.
    """
    values = default(template).parameters
    for name in values:
        given, wanted = parameters.get(name, ""), asked.get(name, "")
        if given and wanted and given != wanted:
            raise RefusedError(
                f"make says {name.upper()}={wanted}, and section [{section}.deploy.parameters] of "
                f"samconfig.toml says {name}={given}: give one of them, or the same value twice."
            )
        values[name] = wanted or given or values[name]
    target = Target(values["Runtime"], values["Architecture"])
    pairs = supported(template)
    if target not in pairs:
        raise RefusedError(f"{target} is not supported; choose one of: {', '.join(map(str, pairs))}.")
    return target
