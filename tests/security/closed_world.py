"""Runs every filter, test, function and method of templates on hostile values and arguments.

A program of its own, as it gives itself little memory: `python -m tests.security.closed_world SEED`. What
comes out of an operation goes into the next ones. It writes what it saw as JSON, and ends with an error
at the first value that does not belong to a template's world.
"""

from __future__ import annotations

import json
import random
import resource
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from jinja2 import StrictUndefined, Undefined
from jinja2.exceptions import TemplateError
from jinja2.filters import _GroupTuple
from jinja2.runtime import LoopContext, TemplateReference
from jinja2.utils import Namespace

from llm_gateway.errors import RenderLimitExceeded, RequestError
from llm_gateway.json_schema.values import Json
from llm_gateway.prompts.files.yaml_lines import PromptSyntaxError
from llm_gateway.prompts.rendering.conditions import TESTS
from llm_gateway.prompts.rendering.filters import FILTERS
from llm_gateway.prompts.rendering.functions import FUNCTIONS
from llm_gateway.prompts.rendering.metered_tree import COMPARE, CONCAT, METHOD, SLICE
from llm_gateway.prompts.rendering.metering import MAX_STEPS, Budget, spending
from llm_gateway.prompts.rendering.methods import TABLES
from llm_gateway.prompts.rendering.sandbox import environment
from llm_gateway.prompts.rendering.template import PromptTemplate
from llm_gateway.prompts.rendering.world import OPAQUE

_MEMORY = 96_000_000
_MAX_CHARS = 100_000
_MOST_BYTES = 24_000_000 + 8 * _MAX_CHARS
_JSON = (str, int, float, bool, type(None), list, tuple, dict, _GroupTuple)
_REFUSALS = (
    RenderLimitExceeded,
    TemplateError,
    TypeError,
    ValueError,
    LookupError,
    ArithmeticError,
    AssertionError,
)
_PYTHON = (
    " at 0x",
    "<class ",
    "<function ",
    "<built-in",
    "<bound",
    "<module",
    "<Macro",
    "<jinja2",
    "Markup(",
)

_ENV = environment()
_MODULE = _ENV.from_string(
    "{% macro m(a=1) %}x{{ caller() if caller }}{% endmacro %}{% block b %}y{% endblock %}"
)
_CONTEXT = _MODULE.new_context()
_LOOP = LoopContext([1, 2], StrictUndefined)
next(_LOOP)


def _nested(depth: int) -> list[Any]:
    value: list[Any] = ["a"]
    for _ in range(depth):
        value = [value]
    return value


def _doubled(times: int) -> list[Any]:
    value: list[Any] = ["a" * 100]
    for _ in range(times):
        value = [value, value]
    return value


_FORMATS = [
    *("{0.__class__}", "{0._environment.__class__.call.__globals__}", "{0[__class__]}", "{a.__init__}"),
    *("{0:1000000000}", "{0!r:>9}", "{:{}}", "{" * 2_001, "{}" * 999, "{0:c}", "{0.m}", "{0.name}"),
    *("%1000000000d", "%(a)s", "%s-%s", "%*d", "%" * 2_001, "%s" * 999, "%r", "%c", "%.999f", "%-5s|"),
]
_TEXTS = [
    *(
        "",
        "a",
        "Ab c",
        "a" * 20_000,
        "\u0101" * 20_000,
        "\U0001f600" * 9_000,
        "\n" * 20_000,
        "a b " * 5_000,
    ),
    *("\u01f0\u03b0\u1e9e\u0130\u03a3" * 1_000, "7" * 4_300, "f" * 9_000, "\u00a0" * 20_000, "a-" * 9_000),
    *("<&>'\"" * 5_000, "\x00" * 9_000, "\U000e0001" * 5_000, "-1.5", "__class__", "upper", "format", "b.c"),
]
_NUMBERS = [
    0,
    1,
    -1,
    7,
    999,
    1_000_000_000,
    1 << 9_999,
    -(1 << 14_000),
    1.5,
    -0.0,
    1e308,
    float("nan"),
    float("inf"),
]
_CONTAINERS: list[Any] = [
    *([], {}, (), [1, "b", None], [3, 1, 2], ["b", "A", "a"], (1, (2, (3,))), {"a": 1, "b": {"c": [1]}}),
    *(
        [{"a": 1, "b": "x"}, {"a": "B"}],
        [["a", 1], ["b", 2]],
        ["a" * 50_000] * 40,
        {"k" * 10_000: 1},
        {1: 2, "z": 3},
    ),
    *(
        list(range(3_000)),
        [n * ((1 << 61) - 1) for n in range(5_000)],
        _nested(90),
        _nested(200),
        _doubled(20),
    ),
    *(_GroupTuple("a", [1]), [_GroupTuple("a", [1])], [Undefined()], [{"__class__": 1}]),
]
_THINGS = [
    *(vars(_MODULE.make_module())["m"], _LOOP, Namespace(a=1)),
    *(TemplateReference(_CONTEXT), FUNCTIONS["range"]),
    *(TemplateReference(_CONTEXT)["b"], Undefined(name="u"), StrictUndefined(name="u"), None, True, False),
]
VALUES: list[Any] = [*_FORMATS, *_TEXTS, *_NUMBERS, *_CONTAINERS, *_THINGS]
_NAMES = [
    *("attribute", "a", "d", "width", "default", "indent", "fillchar", "case_sensitive", "count", "fill_with")
]


def _arguments(chance: random.Random) -> tuple[list[Any], dict[str, Any]]:
    few = chance.choices((0, 1, 2, 3), (5, 8, 4, 1))[0]
    named = {chance.choice(_NAMES): chance.choice(VALUES)} if chance.random() < 0.15 else {}
    return [_argument(chance) for _ in range(few)], named


def _argument(chance: random.Random) -> Any:
    return chance.choice(chance.choice((_NUMBERS, _TEXTS, _CONTAINERS, VALUES, [*FILTERS, *TESTS])))


Operation = tuple[str, Callable[..., Any]]


def _method(name: str) -> Callable[..., Any]:
    def run(value: Any, *args: Any, **kwargs: Any) -> Any:
        return _ENV.call(_CONTEXT, _ENV.filters[METHOD](value, name), *args, **kwargs)

    return run


def _filter(name: str) -> Callable[..., Any]:
    return lambda value, *args, **kwargs: _ENV.call_filter(name, value, args, kwargs, _CONTEXT)


def _test(name: str) -> Callable[..., Any]:
    return lambda value, *args, **kwargs: _ENV.call_test(name, value, args, kwargs, _CONTEXT)


def _function(name: str) -> Callable[..., Any]:
    return lambda *args, **kwargs: _ENV.call(_CONTEXT, FUNCTIONS[name], *args, **kwargs)


def _binary(sign: str) -> Callable[..., Any]:
    return lambda left, right: _ENV.call_binop(_CONTEXT, sign, left, right)


def _compared(sign: str) -> Callable[..., Any]:
    return lambda left, right: _ENV.filters[COMPARE](left, sign, right)


def operations() -> list[Operation]:
    """Everything that a template can do with a value, by what it is called."""
    return [
        *((f"filter {name}", _filter(name)) for name in FILTERS),
        *((f"test {name}", _test(name)) for name in TESTS),
        *((f"method {name}", _method(name)) for name in sorted({name for table in TABLES for name in table})),
        *((f"function {name}", _function(name)) for name in FUNCTIONS),
        *((f"operator {sign}", _binary(sign)) for sign in ("+", "-", "*", "/", "//", "%", "**")),
        *((f"operator {sign}", _compared(sign)) for sign in ("eq", "lt", "in", "notin")),
        ("operator ~", lambda *values: _ENV.filters[CONCAT](values)),
        ("operator []", _ENV.getitem),
        ("operator .", _ENV.getattr),
        ("operator [:]", _ENV.filters[SLICE]),
    ]


def belongs(value: Any) -> bool:
    """True if a template may hold the value, and all that is in it."""
    seen: set[int] = set()
    waiting = [value]
    while waiting:
        item = waiting.pop()
        kind = type(item)
        if not (kind in OPAQUE or kind in _JSON or issubclass(kind, Undefined)):
            return False
        if isinstance(item, list | tuple | dict) and id(item) not in seen:
            seen.add(id(item))
            waiting += [*item, *item.values()] if isinstance(item, dict) else item
    return True


class Run:
    """One run over all operations; counts how each of them ended."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.made: list[Any] = []
        self.succeeded: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()

    def try_one(self, operation: Operation, value: Any) -> bool:
        """Apply an operation to a value with arguments that chance chooses; true if it gives something."""
        name, run = operation
        args, kwargs = _arguments(self.chance)
        budget = Budget(_MAX_CHARS, clock=lambda: 0.0)
        try:
            with spending(budget):
                result = run(value, *args, **kwargs)
        except _REFUSALS:
            self.refused[name] += 1
            return False
        self.succeeded[name] += 1
        if not belongs(result):
            raise SystemExit(f"{name}: {type(result).__name__} does not belong")
        if budget.size > _MOST_BYTES or budget.steps > MAX_STEPS:
            raise SystemExit(f"{name}: beyond the budget")
        if isinstance(result, str) and any(sign in result for sign in _PYTHON):
            raise SystemExit(f"{name}: Python shows through: {result[:100]}")
        if len(self.made) < 4_000 and not isinstance(result, bool):
            self.made.append(result)
        return True

    def over(self, values: Sequence[Any], times: int) -> None:
        """Apply every operation to each of the values, with other arguments while it refuses them."""
        for operation in operations():
            for value in values:
                any(self.try_one(operation, value) for _ in range(times))


def templates(chance: random.Random, count: int) -> Iterator[str]:
    """Templates that chain filters and methods over formats, wide texts, big numbers and nested values."""
    methods = sorted({name for table in TABLES for name in table})
    atoms = [
        "m",
        "loop",
        "ns",
        "self",
        "x",
        "range",
        "m()",
        "caller",
        "n",
        "l",
        "'{0.__class__}'",
        "'%s'",
        "-n",
        "w",
    ]
    args = [
        *[""] * 9,
        "m",
        "10**9",
        "x",
        "'__class__'",
        "x, w",
        "l",
        "'{0.__globals__}', m",
        "*l",
        "**{'a': m}",
    ]
    for _ in range(count):
        expression = chance.choice(atoms)
        for _ in range(chance.randint(1, 4)):
            given = chance.choice(args)
            if chance.random() < 0.5:
                expression = f"({expression})|{chance.choice(list(FILTERS))}({given})"
            else:
                expression = f"({expression}).{chance.choice(methods)}({given})"
        yield (
            "{% set ns = namespace(a=1) %}{% macro m(a) %}x{% endmacro %}"
            f"{{% for i in [1] %}}{{% set y = {expression} %}}{{{{ y }}}}{{% endfor %}}"
        )


def render_all(chance: random.Random, count: int, canary: str) -> Counter[str]:
    """Render generated templates; whatever they give, nothing of the process is in it."""
    seen: Counter[str] = Counter()
    variables: dict[str, Json] = {
        "x": "{0.__init__}" + "a" * 5_000,
        "w": "\U0001f600" * 5_000,
        "n": 1 << 9_000,
        "l": ["a", {"b": [1]}],
    }
    for source in templates(chance, count):
        try:
            template = PromptTemplate.compile(source)
            messages = template.render(variables, _MAX_CHARS, clock=lambda: 0.0)
        except (PromptSyntaxError, RequestError) as refusal:
            seen[type(refusal).__name__] += 1
            continue
        seen["rendered"] += 1
        if any(sign in message.content for message in messages for sign in (*_PYTHON, canary)):
            raise SystemExit(f"Python shows through: {source}")
    return seen


def main() -> None:
    """Run with the memory that is in use now and a little more."""
    seed, canary = int(sys.argv[1]), sys.argv[2]
    in_use = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (in_use + _MEMORY, in_use + _MEMORY))
    run = Run(seed)
    run.over(VALUES, times=2)
    run.over(run.chance.sample(run.made, 80), times=1)
    rendered = render_all(run.chance, 500, canary)
    json.dump({"succeeded": run.succeeded, "refused": run.refused, "templates": rendered}, sys.stdout)


if __name__ == "__main__":
    main()
