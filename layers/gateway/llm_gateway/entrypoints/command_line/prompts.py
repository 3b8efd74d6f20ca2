"""Commands about files on disk: lint, render, push."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from llm_gateway.bootstrap.settings import Settings
from llm_gateway.entrypoints.command_line.output import fail, say, show_diff, show_json, show_table
from llm_gateway.entrypoints.command_line.prompt_folder import PromptFolder, read_variables
from llm_gateway.entrypoints.command_line.stores import PromptStores
from llm_gateway.errors import UnknownModel, UnknownProvider
from llm_gateway.models.catalogue import ModelCatalogue
from llm_gateway.models.tokens import TOKENS_PER_MESSAGE, estimated_tokens
from llm_gateway.prompts.files.front_matter import PromptSyntaxError
from llm_gateway.prompts.files.includes import included, read_source
from llm_gateway.prompts.files.path import is_partial
from llm_gateway.prompts.files.yaml_lines import reading
from llm_gateway.prompts.lint.findings import Finding, Subject
from llm_gateway.prompts.lint.lint import lint as lint_prompt
from llm_gateway.prompts.lint.worst_case import worst_case
from llm_gateway.prompts.prompt import built_prompt
from llm_gateway.usage.pricing import cost_usd

Targets = Annotated[list[Path], typer.Argument(help="Files and folders.", show_default=False)]
Root = Annotated[Path | None, typer.Option(help="Top folder; prompt paths are relative to it.")]
AsJson = Annotated[bool, typer.Option("--json", help="JSON for machines.")]
_POLL_S = 0.1


def lint(
    targets: Targets,
    root: Root = None,
    strict: Annotated[bool, typer.Option(help="Warnings fail as well.")] = False,
    github: Annotated[bool, typer.Option(help="Print GitHub workflow annotations.")] = False,
    as_json: AsJson = False,
) -> None:
    """Check prompt files: `llm-gateway lint prompts/`. Exit code 1 if there is an error."""
    folder = PromptFolder.of(targets, root)
    models = ModelCatalogue.packaged()
    findings = [finding for path in folder.prompts for finding in lint_prompt(path, folder.files, models)]
    findings = list(dict.fromkeys(findings))  # a partial's fault is found by all that include it
    if as_json:
        show_json([asdict(finding) for finding in findings])
    elif github:
        for finding in findings:
            say(_annotation(folder.root, finding))
    else:
        for finding in findings:
            say(str(finding), "red" if finding.severity == "error" else "yellow")
        _summary(folder, models, findings)
    if any(finding.severity == "error" or strict for finding in findings):
        raise typer.Exit(1)


def render(
    path: Annotated[Path, typer.Argument(help="A prompt file.", show_default=False)],
    var: Annotated[list[str] | None, typer.Option(help="name=value; dotted names, JSON values.")] = None,
    variables: Annotated[Path | None, typer.Option("--vars", help="A JSON file of variables.")] = None,
    root: Root = None,
    as_json: AsJson = False,
) -> None:
    """Show what a model would be sent: `llm-gateway render prompts/translate.txt --var text=Hallo`."""
    folder = PromptFolder.of([path], root)
    (name,) = folder.paths
    source = read_source(name, folder.files[name])
    prompt = built_prompt(source, included(source, folder.files), "")
    messages = prompt.render(read_variables(var or [], variables), Settings().max_rendered_chars)
    tokens = sum(TOKENS_PER_MESSAGE + estimated_tokens(message.content) for message in messages)
    if as_json:
        show_json({"messages": [asdict(message) for message in messages], "estimated_tokens": tokens})
        return
    for message in messages:
        say(f"{message.role}:", "bold")
        say(f"{message.content}\n")
    say(f"about {tokens} tokens", "dim")


def push(
    context: typer.Context,
    targets: Targets,
    root: Root = None,
    dry_run: Annotated[bool, typer.Option(help="Only show what would change.")] = False,
    force: Annotated[bool, typer.Option(help="Upload in spite of errors that lint finds.")] = False,
    timeout_s: Annotated[float, typer.Option(help="Longest wait until an upload is served.")] = 60.0,
) -> None:
    """Lint, show the difference, upload: `llm-gateway --stack dev push prompts/support/reply.prompt`."""
    folder = PromptFolder.of(targets, root)
    models = ModelCatalogue.packaged()
    findings = [f for path in folder.prompts for f in lint_prompt(path, folder.files, models)]
    errors = [finding for finding in findings if finding.severity == "error"]
    for finding in errors:
        say(str(finding), "red")
    if errors and not force:
        raise fail("Nothing is uploaded. Mend the errors, or push with --force.")
    stores: PromptStores = context.obj.prompts()
    partials_first = sorted(folder.paths, key=lambda path: (not is_partial(path), path))
    for path in partials_first:
        if not asyncio.run(_push(stores, path, folder.files[path], dry_run, timeout_s)):
            raise fail(f"'{path}' is not served as it was uploaded; `llm-gateway show {path}` tells why.")


async def _push(stores: PromptStores, path: str, data: bytes, dry_run: bool, timeout_s: float) -> bool:
    newest = await stores.files.newest(path, Settings().max_prompt_bytes)
    if newest is not None and newest.data == data:
        say(f"{path}: nothing changed", "dim")
        return True
    old = "" if newest is None or newest.data is None else newest.data.decode(errors="replace")
    show_diff(old, data.decode(errors="replace"), f"{path} (there)", f"{path} (here)")
    if dry_run:
        return True
    version = await stores.files.upload(path, data)
    if stores.indexer is not None:
        await stores.indexer.reconcile()
    if is_partial(path):
        say(f"{path}: uploaded as {version}; the prompts that include it follow", "green")
        return True
    return await _served(stores, path, version, timeout_s)


async def _served(stores: PromptStores, path: str, version: str, timeout_s: float) -> bool:
    say(f"{path}: uploaded as {version}, waiting for the index …", "dim")
    try:
        async with asyncio.timeout(timeout_s):
            while True:
                known = await stores.index.stamp(path)
                if known is not None and known[0].sources.get(path) == version:
                    break
                await asyncio.sleep(_POLL_S)
    except TimeoutError:
        return False
    entry = known[0]
    if entry.state != "ok":
        say(f"{path}: broken, {entry.error}; {entry.version or 'nothing'} is served", "red")
        return False
    needs = ", ".join(entry.required_variables) or "nothing"
    say(f"{path}: version {entry.version} is served; it needs {needs}", "green")
    return True


def _annotation(root: Path, finding: Finding) -> str:
    """Source: GitHub's workflow commands, whose properties escape %, line ends, `:` and `,`."""
    file = root / finding.path
    shown = file.relative_to(Path.cwd()) if file.is_relative_to(Path.cwd()) else file
    properties = {"file": shown.as_posix(), "line": str(finding.line or 1), "title": finding.code}
    listed = ",".join(f"{name}={_escaped(value, ':,')}" for name, value in properties.items())
    return f"::{finding.severity} {listed}::{_escaped(finding.message)}"


def _escaped(text: str, further: str = "") -> str:
    for character in f"%\r\n{further}":
        text = text.replace(character, f"%{ord(character):02X}")
    return text


def _summary(folder: PromptFolder, models: ModelCatalogue, findings: list[Finding]) -> None:
    rows = [_worst(path, folder, models) for path in folder.prompts]
    show_table(["prompt", "model", "most input", "most output", "most USD a call"], rows)
    errors = sum(finding.severity == "error" for finding in findings)
    verdict = f"{len(folder.prompts)} prompts, {errors} errors, {len(findings) - errors} warnings"
    say(verdict, "red" if errors else "green")


def _worst(path: str, folder: PromptFolder, models: ModelCatalogue) -> list[str]:
    try:
        with reading():
            return _worst_of(path, Subject.read(path, folder.files), models)
    except PromptSyntaxError:
        return [path, "", "", "", ""]


def _worst_of(path: str, subject: Subject, models: ModelCatalogue) -> list[str]:
    provider, _, name = (subject.prompt.front.model or Settings().default_model).partition("/")
    try:
        model = models.find(provider, name)
    except (UnknownModel, UnknownProvider):
        return [path, name, "", "", ""]
    case = worst_case(subject, model)
    unbounded = case.input_tokens is None
    plus = " + vars" if unbounded else ""
    cost = cost_usd(case.usage, model.price)
    shown = "unpriced" if cost is None else f"{cost:.6f}{plus}"
    tokens = case.template_tokens if unbounded else case.input_tokens
    return [path, model.name, f"{tokens}{plus}", str(case.output_tokens), shown]
