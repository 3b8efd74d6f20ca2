"""`python -m deployment`: build, deploy, check, wheels. Runs in the environment of SAM."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from cfn_yaml import load_template
from deployment import building, deploying, importing, inspection, sections, targets, wheels
from deployment.refusals import RefusedError
from deployment.targets import Target


def main() -> int:
    """Do what the command line says; the exit code is 1 where something is wrong."""
    given, rest = _arguments().parse_known_args()
    template = load_template()
    asked = {"Runtime": given.runtime, "Architecture": given.architecture}
    try:
        match given.command:
            case "build":
                _build(template, given.section, asked)
            case "deploy":
                deploying.deploy(template, given.section, asked, rest)
            case "wheels":
                _refuse(wheels.problems(targets.supported(template)))
            case _:
                _check(template, bytecode_required=given.bytecode == "required")
    except RefusedError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="deployment", description=__doc__, allow_abbrev=False)
    parser.add_argument("command", choices=["build", "deploy", "check", "wheels"])
    parser.add_argument("--section", default="dev", help="section of samconfig.toml")
    parser.add_argument("--runtime", default="", help="value of the parameter Runtime")
    parser.add_argument("--architecture", default="", help="value of the parameter Architecture")
    parser.add_argument(
        "--bytecode", default="", choices=["", "required"], help="whether check fails without it"
    )
    return parser


def _build(template: Mapping[str, Any], name: str, asked: Mapping[str, str]) -> None:
    section = sections.read(name, template["Parameters"])
    target = targets.chosen(template, name, section.parameters, asked)
    if building.build(target) is None:
        print(deploying.without_bytecode(target))
    print(f"Built for {target}.")


def _check(template: Mapping[str, Any], *, bytecode_required: bool) -> None:
    """Check that every section can be deployed and that the builds for both processors are whole."""
    for name in sections.names():
        section = sections.read(name, template["Parameters"])
        targets.chosen(template, name, section.parameters, {})
    default = targets.default(template)
    # The default comes last: it is what stays in .aws-sam.
    others = [target for target in targets.supported(template) if target.runtime == default.runtime]
    for target in [*(target for target in others if target != default), default]:
        _check_build(target, bytecode_required=bytecode_required)


def _check_build(target: Target, *, bytecode_required: bool) -> None:
    python = building.build(target, quiet=True)
    if python is None:
        if bytecode_required:
            raise RefusedError(deploying.without_bytecode(target))
        print(deploying.without_bytecode(target))
    template = load_template(building.BUILT / "template.yaml")
    found = inspection.artefacts(template, building.BUILT)
    wrong = inspection.problems(found, target, compiled=python is not None)
    imported = python is not None and importing.runs_here(target)
    if python is not None and imported:
        wrong += importing.problems(found, template, python)
    _refuse([f"Built for {target}: {sentence}" for sentence in wrong])
    how = "handlers import" if imported else "handlers are there, not imported on this machine"
    bytecode = "bytecode" if python else "NO bytecode"
    print(
        f"Built for {target}: {len(found.functions)} functions, {how}, {bytecode}, within the size budgets."
    )


def _refuse(problems: Sequence[str]) -> None:
    if problems:
        raise RefusedError("\n".join(problems))


if __name__ == "__main__":
    sys.exit(main())
