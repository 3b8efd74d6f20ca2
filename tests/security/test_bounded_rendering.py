"""Rendering ends soon and stays small, whatever the template and whatever the variables."""

from __future__ import annotations

import time
import tracemalloc
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_gateway.errors import InvalidVariables, RenderLimitExceeded, RequestError
from llm_gateway.json_schema.values import Json
from llm_gateway.models.messages import Message
from llm_gateway.prompts.files.front_matter import PromptSyntaxError
from llm_gateway.prompts.rendering.metering import Budget, spending
from llm_gateway.prompts.rendering.template import PromptTemplate
from tests.unit.prompts.parsed_prompts import SECRET, modest, rendered, told, told_of_refusal

_SAFETY_NET_S = 5.0
_MAX_PEAK_BYTES = 64_000_000
_MAX_CHARS = 1_000_000
_LOOP = "{% for i in range(100000) %}"
_SHORT = "{% for i in range(60) %}"
_END = "{% endfor %}"
_TUPLES = "{% set t = (1, 2) %}" + "{% set t = (t, t) %}" * 40
_NS = "{% set ns = namespace(x=x, l=[1]) %}"

_TOO_MUCH = [
    "{% for i in range(10**9) %}a{% endfor %}",
    _LOOP * 3 + _END * 3,
    _LOOP * 3 + "{{ '' }}" + _END * 3,
    "{% set y %}" + _LOOP + "{{ x }}" + _END + "{% endset %}",
    "{{ 'a' * 10**9 }}",
    "{{ 10**9 * 'a' }}",
    "{{ [1] * 10**9 }}",
    "{{ ([x] * 100000)|join }}",
    "{{ [x] * 100000 }}",
    "{{ ([x] * 100000)|tojson }}",
    "{{ ([x] * 100000)|sort|length }}",
    "{{ ([x] * 100000)|string|length }}",
    "{{ ','.join([x] * 100000)|length }}",
    "{{ x.join(['a'] * 100000)|length }}",
    "{{ (range(100000)|join(x))|length }}",
    "{{ 10**(10**9) }}",
    "{{ 2**99999 }}",
    "{{ n * n }}",
    "{{ (h|int(base=16)) // 3 }}",
    "{{ h|int(base=16) is divisibleby(7) }}",
    _NS + _SHORT + "{% set ns.x = ns.x ~ ns.x %}" + _END + "{{ ns.x|length }}",
    _NS + _SHORT + "{% set ns.x = ns.x + ns.x %}" + _END + "{{ ns.x|length }}",
    _NS + _SHORT + "{% set ns.l = ns.l + ns.l %}" + _END + "{{ ns.l|length }}",
    _NS + _SHORT + "{% set ns.x %}{{ ns.x }}{{ ns.x }}{% endset %}" + _END + "{{ ns.x|length }}",
    _NS + _SHORT + "{% set ns.x = '%s%s'|format(ns.x, ns.x) %}" + _END + "{{ ns.x|length }}",
    _NS + _SHORT + "{% set ns.x = '%s%s' % (ns.x, ns.x) %}" + _END + "{{ ns.x|length }}",
    _NS + _SHORT + "{% set ns.x = '{0}{0}'.format(ns.x) %}" + _END + "{{ ns.x|length }}",
    _NS + _SHORT + "{% set ns.x = ns.x.replace('a', 'aaaa') %}" + _END + "{{ ns.x|length }}",
    _NS + _SHORT + "{% set ns.x = ns.x|tojson %}" + _END + "{{ ns.x|length }}",
    _NS + _SHORT + "{% set ns.x = '\"' ~ ns.x|tojson|tojson|escape %}" + _END + "{{ ns.x|length }}",
    _NS + _SHORT + "{% set ns.l = [ns.l, ns.l] %}" + _END + "{{ ns.l }}",
    _NS + _SHORT + "{% set ns.l = [ns.l, ns.l] %}" + _END + "{{ ns.l|tojson }}",
    _NS + _SHORT + "{% set ns.l = [ns.l, ns.l] %}" + _END + "{{ ns.l == [ns.l, ns.l] }}",
    _NS + _SHORT + "{% set ns.l = [ns.l, ns.l] %}" + _END + "{{ ns.l is eq([ns.l, ns.l]) }}",
    _NS + _SHORT + "{% set ns.l = [ns.l, ns.l] %}" + _END + "{{ [ns.l, ns.l]|unique }}",
    _NS + _SHORT + "{% set ns.l = [ns.l, ns.l] %}" + _END + "{{ [ns.l].count(ns.l) }}",
    _NS + _SHORT + "{% set ns.l = [ns.l, ns.l] %}" + _END + "{{ '%s' % [ns.l] }}",
    _NS + _SHORT + "{% set ns.l = [ns.l, ns.l] %}" + _END + "{{ '{}'.format(ns.l) }}",
    _NS + _SHORT + "{% set ns.l = [ns.l, ns.l] %}" + _END + "{{ '{!r}'.format(ns.l) }}",
    _NS + _SHORT + "{% set ns.l = (ns.l, ns.l) %}" + _END + "{{ {ns.l: 1}|length }}",
    _NS + _SHORT + "{% set ns.l = (ns.l, ns.l) %}" + _END + "{{ m[ns.l] }}",
    _NS + _SHORT + "{% set ns.l = (ns.l, ns.l) %}" + _END + "{{ m.get(ns.l) }}",
    _NS + _SHORT + "{% set ns.l = (ns.l, ns.l) %}" + _END + "{{ ns.l in m }}",
    _NS + _SHORT + "{% set ns.l = (ns.l, ns.l) %}" + _END + "{{ dict([(ns.l, 1)]) }}",
    _NS + _SHORT + "{% set ns.l = ns.l|batch(9, ns.l)|list %}" + _END + "{{ ns.l }}",
    _NS + _SHORT + "{% set ns.m = {'a': ns.l, 'b': ns.l} %}{% set ns.l = ns.m %}" + _END + "{{ ns.l }}",
    _NS + _LOOP + "{% set ns.l = (ns.l,) %}" + _END + "{{ {ns.l: 1}|length }}",
    _NS + _LOOP + "{% set ns.l = ns.l + [i] %}" + _END + "{{ ns.l|length }}",
    _NS + _LOOP + "{% set ns.l = ns.l + [x[1:]] %}" + _END + "{{ ns.l|length }}",
    _NS + _LOOP + "{% set ns.l = (ns.l|map('upper'), x ~ i) %}" + _END,
    "{{ x.ljust(10**9) }}",
    "{{ x.rjust(10**9) }}",
    "{{ x.center(10**9) }}",
    "{{ x.zfill(10**9) }}",
    "{{ x|center(10**9) }}",
    "{{ x|center(width=10**9) }}",
    "{{ '%1000000000d'|format(1) }}",
    "{{ '%(a)1000000000d'|format(a=1) }}",
    "{{ '%*d' % (10**9, 1) }}",
    "{{ '%.1000000000f' % 1.5 }}",
    "{{ '%l%%1000000000d' % 1 }}",
    "{{ '{:1000000000}'.format(1) }}",
    "{{ '{:{w}}'.format(1, w=10**9) }}",
    "{{ '{:.1000000000f}'.format(1.5) }}",
    "{{ x.replace('', x) }}",
    "{{ x|replace('', x) }}",
    "{{ x|replace('a', x) }}",
    "{{ x|indent(10**9) }}",
    "{{ x|indent(x * 100) }}",
    "{{ lines|indent(x) }}",
    "{{ [1]|batch(10**9, 0) }}",
    "{{ [1]|slice(10**9) }}",
    "{{ 1.5|round(10**9, 'ceil') }}",
    "{{ x|wordwrap(1) }}",
    "{{ words|wordwrap(9, wrapstring=x) }}",
    "{{ m|tojson(indent=10**9) }}",
    "{{ x.rfind('b' ~ x[:50000]) }}",
    "{{ x.strip('b' * 100000 ~ 'a') }}",
    "{{ x|trim('b' * 100000 ~ 'a') }}",
    "{{ (x ~ x ~ x ~ x ~ x ~ x ~ x ~ x ~ x ~ x ~ x ~ x ~ x ~ x ~ x)|list|length }}",
    "{% for a in [1] recursive %}{{ loop([1, 2]) }}{% endfor %}",
    "{% for a in range(9) recursive %}{{ loop(range(9)) if loop.depth < 99 }}{% endfor %}",
    "{% macro m() %}{{ m() }}{{ m() }}{% endmacro %}{{ m() }}",
    "{% macro a(f) %}{{ f(a) }}{{ f(a) }}{% endmacro %}{% macro b(f) %}{{ f(b) }}{% endmacro %}{{ a(b) }}",
    "{% macro m(n) %}{{ (m(n - 1) ~ m(n - 1)) if n }}{% endmacro %}{{ m(60) }}",
    "{% macro m() %}"
    + _LOOP * 2
    + "{{ caller() }}"
    + _END * 2
    + "{% endmacro %}{% call m() %}a{% endcall %}",
    "{% block b %}{{ self.b() }}{{ self.b() }}{% endblock %}",
    "{% set y = range(100000)|list %}" + _LOOP + "{{ '' if i in y }}" + _END,
    "{% set y = range(100000)|list %}" + _LOOP + "{{ y|sort|first }}" + _END,
    "{% set y = range(100000)|list %}" + _LOOP + "{{ y|map('string')|list|length }}" + _END,
    _LOOP + "{% if 1 %}a{% endif %}" * 1000 + _END,
    "{% set y %}" + _LOOP + "a" * 10_000 + _END + "{% endset %}{{ y|length }}",
    "{% macro m() %}" + "a" * 10_000 + "{% endmacro %}" + _LOOP + "{% set y = m() %}" + _END,
    "{% set y = [" + "1," * 9_000 + "] %}" + _LOOP + "{% set z = y|list %}" + _END,
    _LOOP + "{% set z = [" + "i," * 9_000 + "] %}" + _END,
]
_VARIABLES: dict[str, Json] = {
    "x": "a" * 100_000,
    "n": 1 << 9_000,
    "h": "f" * 900_000,
    "m": {"k": [1, {"l": 2}]},
    "lines": "a\n" * 100_000,
    "words": "a " * 100_000,
}


def refusal(text: str, variables: dict[str, Json]) -> RequestError:
    """The refusal that rendering ends in, which must come soon."""
    began = time.monotonic()
    with pytest.raises(RequestError) as caught:
        rendered(text, variables, _MAX_CHARS)
    assert time.monotonic() - began < _SAFETY_NET_S
    return caught.value


@pytest.mark.parametrize("text", _TOO_MUCH, ids=lambda text: text[:90])
def test_work_out_of_proportion_is_refused_soon(text: str) -> None:
    refused = refusal(text, _VARIABLES)
    assert isinstance(refused, RenderLimitExceeded)
    assert "aaa" not in told(refused)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (_NS + _SHORT + "{% set ns.x = ns.x ~ ns.x %}" + _END, "a" * 100_000),
        (_NS + _SHORT + "{% set ns.x = ns.x ~ 'a' ~ ns.x %}" + _END, "\U0001f600" * 1_000),
        (_NS + _SHORT + "{% set ns.x %}{{ ns.x }}a{{ ns.x }}{% endset %}" + _END, "\U0001f600" * 1_000),
        (_NS + _SHORT + "{% set ns.l = ns.l + ns.l %}" + _END, ""),
        (_NS + _SHORT + "{% set ns.x = ns.x|tojson %}" + _END, "\U0001f600" * 100_000),
        (_NS + _SHORT + "{% set ns.l = ns.l + [x.split()] %}" + _END, "é " * 100_000),
        (_NS + _SHORT + "{% set ns.l = ns.l + [x|list] %}" + _END, "\U0001f600" * 100_000),
        (_NS + _LOOP + "{% set ns.l = [ns.l, x ~ i] %}" + _END, "a" * 1_000),
        ("{{ [x] * 100000 }}", "a" * 1_000),
        ("{{ x|replace('a', x) }}", "a" * 100_000),
        ("{{ x|indent(x * 9) }}", "a\n" * 100_000),
        (_LOOP + "{% if 1 %}a{% endif %}" * 1_000 + _END, ""),
        ("{% set y %}" + _LOOP + "a" * 10_000 + _END + "{% endset %}", ""),
    ],
)
def test_work_out_of_proportion_takes_little_memory(text: str, value: str) -> None:
    """The clock stands still: memory is bounded by what is counted, on a slow machine as well."""
    template = PromptTemplate.compile(text)
    tracemalloc.start()
    try:
        with pytest.raises(RenderLimitExceeded):
            template.render({"x": value}, _MAX_CHARS, clock=lambda: 0.0)
        assert tracemalloc.get_traced_memory()[1] < _MAX_PEAK_BYTES
    finally:
        tracemalloc.stop()


def test_a_rendering_that_outlives_its_time_is_refused_and_the_next_one_is_not() -> None:
    seconds = iter([float(n) for n in range(1_000)])
    template = PromptTemplate.compile("{% for i in range(200) %}{{ i ~ i }}{% endfor %}")
    with pytest.raises(RenderLimitExceeded, match="too long"):
        template.render({}, _MAX_CHARS, time_limit_s=0.5, clock=lambda: next(seconds))
    assert template.render({}, _MAX_CHARS, time_limit_s=60)


@pytest.mark.parametrize(
    ("text", "variables"),
    [
        ("{{ ('a'|e).center(10**9) }}", {}),
        ('{{ (text|e).replace("\\n", sep) }}', {"text": "\n" * 30_000, "sep": "s" * 100_000}),
        ("{{ s|wordwrap }}", {"s": "\u00a0" * 480_000}),
        ("{{ xs|groupby('a', default=s) }}", {"xs": [{}] * 3_000, "s": "A" * 100_000}),
        ("{{ xs|sort(attribute='a,a,a,a,a,a,a,a,a,a') }}", {"xs": [{"a": "A" * 10_000}] * 900}),
        ("{{ dict(xs) }}", {"xs": [[n * ((1 << 61) - 1), 1] for n in range(9_000)]}),
        ("{{ [1].index(d) }}{{ [d] * 9 }}", {"d": [["a" * 100_000] * 99] * 9}),
        ("{{ s.rfind(t) }}", {"s": "a" * 90_000, "t": "b" + "a" * 40_000}),
        ("{% macro m(a) %}{% endmacro %}{{ m(*s) }}", {"s": "a" * 900_000}),
        (_TUPLES + "{{ d|attr(t)|default('') }}", {"d": {"a": 1}}),
        (_TUPLES + "{{ [1]|attr(t) }}", {}),
        (_TUPLES + "{{ [d]|map('attr', t)|join }}", {"d": {"a": 1}}),
        ("{{ d|tojson([0] * 3000000) }}", {"d": [[[[[[[[[[1]]]]]]]]]]}),
        ("{{ d|tojson(s) }}", {"d": [[[[[[[[[[1]]]]]]]]]], "s": "a" * 9_000_000}),
    ],
)
def test_what_is_out_of_proportion_is_refused_before_it_begins(text: str, variables: dict[str, Json]) -> None:
    """The clock stands still, so that nothing but what is counted can refuse it."""
    template = PromptTemplate.compile(text)
    tracemalloc.start()
    try:
        with pytest.raises((RenderLimitExceeded, InvalidVariables)):
            template.render(variables, _MAX_CHARS, clock=lambda: 0.0)
        assert tracemalloc.get_traced_memory()[1] < _MAX_PEAK_BYTES
    finally:
        tracemalloc.stop()


def charged(text: str, variables: dict[str, Json]) -> int:
    """Steps that a rendering is charged."""
    left = Budget(_MAX_CHARS, clock=lambda: 0.0)
    template = PromptTemplate.compile(text)
    with spending(left):
        list(template.template.generate(variables))
    return left.steps


@pytest.mark.parametrize(
    "operation",
    [
        *("word in text", "text == other", "text < other", "text is eq(other)"),
        *("text.find(word)", "text.count(word)", "text.replace(word, 'b')", "text|replace(word, 'b')"),
        *("text.isalpha()", "text.startswith(other)", "text|upper", "text.lower()", "text|int", "text|float"),
        *("text|trim", "text|wordcount", "text|wordwrap", "text|e", "text|tojson", "text|urlencode"),
        *(
            "[text]|sort",
            "[text]|unique",
            "[text]|map('upper')",
            "[text]|select('eq', other)",
        ),
        *(
            "{text: 1}",
            "[[text]] == [[other]]",
            "[text]|string",
            "text|title",
            "text.split()",
            "text|truncate",
        ),
    ],
)
def test_reading_a_long_text_costs_a_step_for_each_kilobyte(operation: str) -> None:
    text = "{% set y = " + operation + " %}"
    values: dict[str, Json] = {"word": "bb", "text": "a" * 102_400, "other": "a" * 102_399 + "b"}
    short: dict[str, Json] = {"word": "bb", "text": "a", "other": "b"}
    assert charged(text, values) - charged(text, short) >= 99


def test_every_round_of_a_loop_looks_at_the_clock() -> None:
    looks: list[float] = []

    def clock() -> float:
        looks.append(0.0)
        return 0.0

    template = PromptTemplate.compile("{% for i in range(500) %}{% endfor %}")
    with pytest.raises(InvalidVariables):
        template.render({}, _MAX_CHARS, clock=clock)
    assert len(looks) >= 500


def test_a_budget_has_steps_bytes_and_a_deadline_of_its_own() -> None:
    with pytest.raises(RenderLimitExceeded):
        Budget(1, max_steps=40, clock=lambda: 0.0).step(41)
    with pytest.raises(RenderLimitExceeded):
        Budget(1, max_bytes=10, clock=lambda: 0.0).pay(11)
    with pytest.raises(RenderLimitExceeded):
        Budget(1, deadline=-1.0, clock=lambda: 0.0).look()


@pytest.mark.parametrize("text", ["{% set y = 'a' * 10**9 %}", "{{ 'a' * 10**9 }}"])
def test_compiling_computes_nothing_large(text: str) -> None:
    tracemalloc.start()
    try:
        PromptTemplate.compile(text)
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "text",
    [
        "{{ '%(((a)))1000000000d' % {'((a))': x} }}",
        "{{ ''.__class__.__mro__ }}",
        "{{ x.__init__.__globals__ }}",
        "{{ x|attr('__class__') }}",
        "{{ '{0.__class__}'.format(x) }}",
        "{{ '{0[__class__]}'.format(x) }}",
        "{{ '{a.__class__}'.format_map({'a': x}) }}",
        "{{ x.format.__wrapped__ }}",
        "{% macro m() %}x{% endmacro %}{{ ('{0._environment.__class__.call.__globals__[filters].re.enum."
        "sys.modules[os].environ[HOME]}'|safe).format(m) }}{{ x }}",
        "{% macro m() %}x{% endmacro %}{{ '{0._environment}'.format(m) }}{{ x }}",
        "{% macro m() %}x{% endmacro %}{{ ['{0._func}']|map('format', m)|list }}{{ x }}",
        "{% set f = x.format %}{{ f(1) }}",
        "{{ [x]|map('~method', 'upper')|list }}",
        "{{ x|attr('format')(x) }}",
        "{{ (-8) ** 0.5 }}{{ x }}",
        "{% for a in [1] %}{% for b in loop %}{{ b }}{% endfor %}{% endfor %}{{ x }}",
        "{% for a in [1] %}{{ loop|first }}{% endfor %}{{ x }}",
        "{% for a in [1] %}{{ a in loop }}{% endfor %}{{ x }}",
        "{% for b in self %}{% endfor %}{{ x }}",
        "{{ x.encode() }}",
        "{{ x.translate({}) }}",
        "{{ x.maketrans }}",
        "{{ x.expandtabs(10**9) }}",
        "{{ m.fromkeys([1]) }}",
        "{{ (1).to_bytes(10**9) }}",
        "{{ namespace.mro() }}",
        "{{ loop }}{{ x }}",
        "{% set ns = namespace(a=x) %}{{ ns }}",
        "{% macro m() %}{{ x }}{% endmacro %}{{ m }}",
        "{{ range }}{{ x }}",
        "{{ [x.upper] }}",
        "{{ '%1000000000d' is odd }}{{ x }}",
        "{{ [[x]]|sum(start=[]) }}",
        "{{ '{:{w}}'.format(x, w='9' * 9) }}",
    ],
)
def test_what_is_not_allowed_is_refused_and_not_told(text: str) -> None:
    assert SECRET not in told_of_refusal(text, {"x": SECRET, "m": {}})


@pytest.mark.parametrize("name", ["random", "xmlattr", "urlize", "striptags", "pprint", "nope"])
def test_a_filter_that_is_not_on_the_list_breaks_the_file(name: str) -> None:
    with pytest.raises(PromptSyntaxError):
        PromptTemplate.compile(f"{{{{ x|{name} }}}}")


@pytest.mark.parametrize(
    ("text", "content"),
    [
        ("{{ x.upper() }} {{ x.split(',')|length }} {{ x.replace(',', ';') }}", "A,B 2 a;b"),
        (
            "{{ '{:.2f} {:>5}'.format(1.5, x) }} {{ '%05.1f' % 2 }} {{ '%s-%s'|format(1, x) }}",
            "1.50   a,b 002.0 1-a,b",
        ),
        ("{{ l|map(attribute='k')|join('+') }}={{ l|sum(attribute='k') }}", "3+1=4"),
        ("{{ l|sort(attribute='k')|map(attribute='k')|list }}", "[1, 3]"),
        ("{% for k, v in l|groupby('k') %}{{ k }}:{{ v|length }} {% endfor %}", "1:1 3:1"),
        ("{% for a in range(5)|batch(2, 0) %}{{ a|join }} {% endfor %}", "01 23 40"),
        (
            "{% for a in l %}{{ loop.index }}/{{ loop.length }}{{ ',' if not loop.last }}{% endfor %}",
            "1/2,2/2",
        ),
        ("{% for a in [1, [2, [3]]] recursive %}{{ a if a is number else loop(a) }}{% endfor %}", "123"),
        ("{% macro m(a) %}<{{ a }}{{ caller() }}>{% endmacro %}{% call m(1) %}!{% endcall %}", "<1!>"),
        (
            "{% set ns = namespace(n=0) %}{% for a in l %}{% set ns.n = ns.n + a.k %}{% endfor %}{{ ns.n }}",
            "4",
        ),
        ("{{ '<' ~ x }} {{ ('<' ~ x)|e }} {{ '<'|safe|e|e }}", "<a,b &lt;a,b &amp;lt;"),
        (
            "{{ 'a' in x }} {{ x == 'a,b' }} {{ 1 < l|length < 3 }} {{ x[1:] }} {{ {x: 1}[x] }}",
            "True True True ,b 1",
        ),
        ("{{ l|tojson(indent=1) }}", '[\n {\n  "k": 3\n },\n {\n  "k": 1\n }\n]'),
        ("{{ x|indent(2, first=true) }}|{{ x|center(5) }}|{{ x|wordwrap(2) }}", "a,b| a,b |a,\nb"),
    ],
)
def test_ordinary_operations_give_what_jinja_gives(text: str, content: str) -> None:
    assert rendered(text, {"x": "a,b", "l": [{"k": 3}, {"k": 1}]}) == [Message("user", content)]


_ATOMS = st.sampled_from(
    ["x", "ns.v", "1", "'ab'", "[ns.v, x]", "ns.v ~ x", "ns.v + ns.v", "ns.v * 99", "[x] * 99"]
)
_FILTERED = st.tuples(
    _ATOMS, st.sampled_from(["", "|join(x)", "|list", "|string", "|batch(3)", "|replace('a', x)"])
)
_STATEMENTS = st.recursive(
    _FILTERED.map(lambda e: f"{{% set ns.v = ({e[0]}){e[1]} %}}")
    | _FILTERED.map(lambda e: f"{{{{ ({e[0]}){e[1]} }}}}"),
    lambda below: st.tuples(
        st.sampled_from(["range(99)", "ns.v", "x"]), st.lists(below, min_size=1, max_size=3)
    ).map(lambda loop: f"{{% for i in {loop[0]} %}}{''.join(loop[1])}{{% endfor %}}"),
    max_leaves=6,
)


@modest
@given(_STATEMENTS, st.text(max_size=20))
def test_any_template_ends_soon(body: str, value: str) -> None:
    began = time.monotonic()
    with suppress(RenderLimitExceeded, InvalidVariables):
        rendered("{% set ns = namespace(v=x) %}" + body, {"x": value}, _MAX_CHARS)
    assert time.monotonic() - began < _SAFETY_NET_S
