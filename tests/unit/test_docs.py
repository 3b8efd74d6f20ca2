"""The documentation is true: its examples run, and what it lists is what there is."""

from __future__ import annotations

import inspect
import json
import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from llm_gateway import errors
from llm_gateway.access import errors as access_errors
from llm_gateway.bootstrap.settings import ENV_PREFIX, Settings
from llm_gateway.errors import GatewayError
from llm_gateway.models import errors as provider_errors
from llm_gateway.models.catalogue import ModelCatalogue
from llm_gateway.prompts.files.front_matter import PromptSyntaxError
from llm_gateway.prompts.files.path import is_partial
from llm_gateway.prompts.lint.lint import lint
from llm_gateway.prompts.prompt import Prompt, parse_prompt

ROOT = Path(__file__).parent.parent.parent
PROMPTS = ROOT / "layers" / "gateway" / "llm_gateway" / "prompts"
NAME = "example.prompt"
MODELS = ModelCatalogue.packaged()
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
_FENCE = re.compile(r"^```(?P<kind>[a-z-]*(?: \S+)?)\n(?P<text>.*?)^```$", re.M | re.S)


def fences(page: str) -> list[tuple[str, str]]:
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    return [(match["kind"], match["text"]) for match in _FENCE.finditer(text)]


@dataclass(frozen=True)
class Example:
    """A prompt of the page, the partials right above it, and the blocks right below it."""

    files: dict[str, bytes]
    told: tuple[str, ...] = ()

    def parsed(self) -> Prompt:
        partials = {path: data for path, data in self.files.items() if path != NAME}
        return parse_prompt(NAME, "v1", self.files[NAME], partials)

    def linted(self) -> list[str]:
        return [str(finding) for finding in lint(NAME, self.files, MODELS)]


def examples(kind: str, told: int) -> list[Example]:
    """Each example of a kind, with as many of the blocks that follow it."""
    found: list[Example] = []
    partials: dict[str, bytes] = {}
    blocks = fences("prompt-format.md")
    for n, (name, text) in enumerate(blocks):
        if name.startswith("partial "):
            partials[name.removeprefix("partial ")] = text.encode()
            continue
        if name == kind:
            below = tuple(text for _, text in blocks[n + 1 : n + 1 + told])
            found.append(Example({**partials, NAME: text.encode()}, below))
        partials = {}
    return found


@pytest.mark.parametrize("example", examples("prompt", 2))
def test_an_example_prompt_gives_the_messages_that_the_page_says(example: Example) -> None:
    variables, messages = example.told
    prompt = example.parsed()
    rendered = prompt.render(json.loads(variables), 100_000)
    assert [[message.role, message.content] for message in rendered] == json.loads(messages)
    assert prompt.front.warnings == ()


@pytest.mark.parametrize("example", examples("broken-prompt", 1))
def test_a_bad_example_is_broken_in_the_way_that_the_page_says(example: Example) -> None:
    with pytest.raises(PromptSyntaxError) as caught:
        example.parsed()
    assert str(caught.value) == example.told[0].strip()


@pytest.mark.parametrize("example", examples("bad-prompt", 1))
def test_lint_says_of_a_bad_example_what_the_page_says(example: Example) -> None:
    assert example.linted() == example.told[0].strip().split("\n")


@pytest.mark.parametrize("example", examples("good-prompt", 0))
def test_lint_finds_nothing_in_a_good_example(example: Example) -> None:
    assert example.linted() == []


def test_every_bad_example_is_told_what_is_wrong_and_most_have_a_good_one_beside_them() -> None:
    kinds = [kind for kind, _ in fences("prompt-format.md")]
    after_bad = [kinds[n + 1] for n, kind in enumerate(kinds) if kind == "bad-prompt"]
    assert after_bad == ["findings"] * len(after_bad)
    assert kinds.count("good-prompt") >= 6


def test_what_stands_for_handlebars_is_a_template() -> None:
    page = (ROOT / "docs" / "prompt-format.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| .*\{\{.* \| (.*) \|$", page[page.index("### From Dotprompt") :], re.M)
    snippets = [code for row in rows for code in re.findall(r"(?:`|<code>)(\{.+?)(?:`|</code>)", row)]
    assert len(snippets) >= 14
    for snippet in snippets:
        parse_prompt(NAME, "v1", snippet.replace("&#124;", "|").encode(), {"_name.prompt": b"x"})


def test_every_code_of_the_linter_is_explained_with_its_severity() -> None:
    source = "".join((PROMPTS / name).read_text() for name in ("lint/lint.py", "lint/variables.py"))
    page = (ROOT / "docs" / "prompt-format.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`[a-z`, -]+`) \| (error|warning|error, warning) \|", page, re.M)
    explained = {
        (code, severity)
        for codes, row in rows
        for code in re.findall(r"[a-z-]{2,}", codes)
        for severity in row.split(", ")
    }
    assert explained == {
        (code, level) for level, code in re.findall(r'"(error|warning)", "([a-z-]+)"', source)
    }


def test_there_are_good_and_bad_examples() -> None:
    assert len(examples("prompt", 2)) >= 8
    assert len(examples("broken-prompt", 1)) >= 4
    assert any(len(example.files) == 3 for example in examples("prompt", 2))


SAMPLES = {
    p.relative_to(ROOT / "prompts").as_posix(): p.read_bytes()
    for p in (ROOT / "prompts").rglob("*.*")
    if ".llm-gateway" not in p.parts  # what `make serve` remembers of them
}


@pytest.mark.parametrize("path", sorted(path for path in SAMPLES if not is_partial(path)))
def test_every_sample_prompt_parses_without_a_warning(path: str) -> None:
    included = {name: data for name, data in SAMPLES.items() if is_partial(name)}
    prompt = parse_prompt(path, "v1", SAMPLES[path], included)
    assert prompt.front.warnings == ()
    assert prompt.required_variables


def test_every_error_code_is_explained() -> None:
    page = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    modules = (errors, access_errors, provider_errors)
    classes = {cls for module in modules for _, cls in inspect.getmembers(module, inspect.isclass)}
    for cls in classes:
        if issubclass(cls, GatewayError):
            assert f"`{cls.code}`" in page, cls.code


def test_every_setting_is_described() -> None:
    page = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    for name in Settings.__dataclass_fields__:
        assert f"{ENV_PREFIX}{name.upper()}" in page, name


def test_every_make_target_that_is_mentioned_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        mentioned = set(re.findall(r"(?:`|^    )make ([a-z-]+)", text, re.M))
        assert mentioned <= targets, page.name


def test_every_link_leads_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)]+)\)", page.read_text(encoding="utf-8")):
            path, _, anchor = target.partition("#")
            if target.startswith("http"):
                continue
            linked = (page.parent / path) if path else page
            assert linked.exists(), f"{page.name}: {target}"
            if anchor:
                headings = re.findall(r"^#+ (.+)$", linked.read_text(encoding="utf-8"), re.M)
                slugs = {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}
                assert anchor in slugs, f"{page.name}: {target}"


def test_the_api_document_has_every_status_that_a_call_can_end_with() -> None:
    document = json.loads((ROOT / "docs" / "openapi.json").read_text(encoding="utf-8"))
    told = {int(status) for status in document["paths"]["/v1/call"]["post"]["responses"]}
    kinds, statuses = [GatewayError], set()
    for kind in kinds:
        kinds += kind.__subclasses__()
        statuses.add(kind.status)
    # 405 is no answer of an operation that there is, 499 is heard by nobody.
    assert told == {200} | statuses - {405, 499}
