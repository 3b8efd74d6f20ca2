"""Words of a template that mean nothing here: unknown filters, tests, methods and functions.

What can be known from the file is said when it is uploaded, with the word and its line, instead of to
a caller who can do nothing about it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from jinja2 import nodes
from jinja2.visitor import NodeVisitor

from llm_gateway.prompts.files.yaml_lines import shown
from llm_gateway.prompts.rendering import methods
from llm_gateway.prompts.rendering.conditions import TESTS
from llm_gateway.prompts.rendering.filters import FILTERS
from llm_gateway.prompts.rendering.functions import FUNCTIONS
from llm_gateway.prompts.rendering.metering import MAX_INT_BITS
from llm_gateway.prompts.rendering.world import OF_A_LOOP
from llm_gateway.suggestions import nearest

_CHANGING = {"append", "extend", "insert", "pop", "remove", "clear", "update", "setdefault", "popitem"}
_BY_LITERAL: Mapping[type, methods.Methods] = {
    nodes.List: methods.OF_LISTS,
    nodes.Tuple: methods.OF_LISTS,
    nodes.Dict: methods.OF_MAPPINGS,
    nodes.Concat: methods.OF_TEXTS,
    nodes.TemplateData: methods.OF_TEXTS,
}
_NEVER_CALLABLE = (*_BY_LITERAL, nodes.Const, nodes.Call, nodes.BinExpr, nodes.Compare, nodes.Test)
_Called = nodes.Call | nodes.Filter | nodes.Test


@dataclass(frozen=True, slots=True)
class UnknownWord:
    """Something a template says that means nothing here.

    Attributes:
        line: Line of the template, counted from 1.
        message: What it is, and what to do.
    """

    line: int
    message: str


def unknown_word(tree: nodes.Template) -> UnknownWord | None:
    """The first of a template's words that is in no table, by line; None if all are known.

    Args:
        tree: The parsed template, not yet metered.
    """
    check = _Check(tree)
    check.visit(tree)
    if check.first is None:
        return None
    line, message, name, known = check.first
    near = nearest(name, known)
    return UnknownWord(line, f"{message}; did you mean '{near[0]}'?" if near else message)


class _Check(NodeVisitor):
    """One walk over a template; visitors are named after the nodes, as Jinja2 wants it.

    Attributes:
        first: Line and message of the first word that is unknown, the word itself, and those that it may
            have been meant to be. Comparing words takes long, so it is done once, for this one.
    """

    def __init__(self, tree: nodes.Template) -> None:
        self.first: tuple[int, str, str, Iterable[str]] | None = None
        self._blocks = {block.name for block in tree.find_all(nodes.Block)}
        self._own = {name.name for name in tree.find_all(nodes.Name) if name.ctx != "load"}
        self._own |= {macro.name for macro in tree.find_all(nodes.Macro)}
        self._loops = 0
        self._macros = 0

    def visit_For(self, node: nodes.For) -> None:
        self.visit(node.iter)
        self._loops += 1
        for part in (node.target, *([node.test] if node.test else []), *node.body):
            self.visit(part)
        self._loops -= 1
        for part in node.else_:
            self.visit(part)

    def visit_Macro(self, node: nodes.Macro) -> None:
        self._check_once(node, [argument.name for argument in node.args])
        self._macros += 1
        self.generic_visit(node)
        self._macros -= 1

    def visit_CallBlock(self, node: nodes.CallBlock) -> None:
        self._check_once(node, [argument.name for argument in node.args])
        self.generic_visit(node)

    def visit_Block(self, node: nodes.Block) -> None:
        if node.required:
            self._say(node, "'required' is not available in prompts, as 'extends' is not")
        self.generic_visit(node)

    def visit_ScopedEvalContextModifier(self, node: nodes.ScopedEvalContextModifier) -> None:
        self._say(node, "'autoescape' is not available in prompts; text is sent as it is")
        self.generic_visit(node)

    def visit_Const(self, node: nodes.Const) -> None:
        value = node.value
        large = isinstance(value, int) and value.bit_length() > MAX_INT_BITS
        if large or (isinstance(value, float) and abs(value) == float("inf")):
            self._say(node, "a number is too large")

    def visit_Filter(self, node: nodes.Filter) -> None:
        self._check_once(node, _names(node.kwargs))
        self._check_named("filter", node.name, FILTERS, node, node.args, node.kwargs)
        self._check_inner(node)
        self.generic_visit(node)

    def visit_Test(self, node: nodes.Test) -> None:
        self._check_once(node, _names(node.kwargs))
        self._check_named("test", node.name, TESTS, node, node.args, node.kwargs)
        self.generic_visit(node)

    def visit_Getattr(self, node: nodes.Getattr) -> None:
        if self._is_loop(node.node) and node.attr not in OF_A_LOOP:
            self._unknown(node, "field", f"loop.{node.attr}", [f"loop.{name}" for name in OF_A_LOOP])
        if self._is_self(node.node) and node.attr not in self._blocks:
            self._unknown(node, "block", node.attr, self._blocks)
        self.generic_visit(node)

    def visit_Call(self, node: nodes.Call) -> None:
        self._check_once(node, _names(node.kwargs))
        match node.node:
            case nodes.Getattr() as called:
                self._check_method(node, called)
                self.visit(called.node)
            case nodes.Name(name=name):
                self._check_function(node, name)
            case nodes.Getitem() as called if self._is_variable(called):
                self._say(node, "a field of a variable cannot be called")
                self.visit(called)
            case called:
                if isinstance(called, _NEVER_CALLABLE):
                    self._say(node, "only macros, functions and methods can be called")
                self.visit(called)
        for part in (*node.args, *node.kwargs, node.dyn_args, node.dyn_kwargs):
            if part is not None:
                self.visit(part)

    def _check_once(self, node: nodes.Node, names: Iterable[str]) -> None:
        """Python compiles no call, and no macro, that names an argument twice."""
        seen = set[str]()
        for name in names:
            if name in seen:
                self._say(node, f"the argument '{shown(name)}' is named twice")
            seen.add(name)

    def _check_method(self, node: nodes.Call, called: nodes.Getattr) -> None:
        name, owner = called.attr, called.node
        if self._is_self(owner):
            if name not in self._blocks:
                self._unknown(node, "block", name, self._blocks)
            return
        known = self._methods_of(owner)
        candidates = [table[name] for table in known if name in table]
        if candidates:
            if not any(_binds(run, node, node.args, node.kwargs) for run in candidates):
                self._say(node, f"the method '{shown(name)}' does not take these arguments")
        elif name in _CHANGING:
            self._say(
                node, f"there is no method '{name}': a template cannot change a value; set a new one instead"
            )
        else:
            self._unknown(node, "method", name, {name for table in known for name in table})

    def _methods_of(self, owner: nodes.Expr) -> Iterable[methods.Methods]:
        if self._is_loop(owner):
            return (methods.OF_LOOPS,)
        if isinstance(owner, nodes.Const):
            return (methods.methods_of(owner.value),)
        literal = _BY_LITERAL.get(type(owner))
        return methods.TABLES if literal is None else (literal,)

    def _check_function(self, node: nodes.Call, name: str) -> None:
        if name in self._own or (name == "loop" and self._loops) or (name == "caller" and self._macros):
            return
        function = FUNCTIONS.get(name)
        if function is None:
            self._unknown(node, "function", name, (*FUNCTIONS, *self._own))
        elif not _binds(function.run, node, node.args, node.kwargs, given=0):
            self._say(node, f"the function '{name}' does not take these arguments")

    def _check_inner(self, node: nodes.Filter) -> None:
        """The filter or test that `map`, `select` and the like are given by name."""
        place = {"map": 0, "select": 0, "reject": 0, "selectattr": 1, "rejectattr": 1}.get(node.name)
        if place is None or len(node.args) <= place:
            return
        named = node.args[place]
        if isinstance(named, nodes.Const) and isinstance(named.value, str):
            kind, table = ("filter", FILTERS) if node.name == "map" else ("test", TESTS)
            self._check_named(kind, named.value, table, node, node.args[place + 1 :], node.kwargs)

    def _check_named(
        self,
        kind: str,
        name: str,
        table: Mapping[str, Callable[..., Any]],
        node: nodes.Filter | nodes.Test,
        args: list[nodes.Expr],
        kwargs: Iterable[nodes.Node],
    ) -> None:
        function = table.get(name)
        if function is None:
            self._unknown(node, kind, name, table)
        elif not _binds(function, node, args, kwargs):
            self._say(node, f"the {kind} '{name}' does not take these arguments")

    def _is_loop(self, node: nodes.Node) -> bool:
        return self._loops > 0 and isinstance(node, nodes.Name) and node.name == "loop"

    def _is_self(self, node: nodes.Node) -> bool:
        return isinstance(node, nodes.Name) and node.name == "self" and "self" not in self._own

    def _is_variable(self, node: nodes.Node) -> bool:
        """True for a path into what a caller gives, which holds nothing that can be called."""
        while isinstance(node, nodes.Getitem | nodes.Getattr):
            node = node.node
        return isinstance(node, nodes.Const) or (
            isinstance(node, nodes.Name) and node.name not in {*self._own, "kwargs", "varargs", "loop"}
        )

    def _unknown(self, node: nodes.Node, kind: str, name: str, known: Iterable[str]) -> None:
        self._say(node, f"there is no {kind} '{shown(name)}'", name, known)

    def _say(self, node: nodes.Node, message: str, name: str = "", known: Iterable[str] = ()) -> None:
        if self.first is None or node.lineno < self.first[0]:
            self.first = node.lineno, message, name, known


def _binds(
    function: Callable[..., Any],
    node: _Called,
    args: list[nodes.Expr],
    kwargs: Iterable[nodes.Node],
    given: int = 1,
) -> bool:
    """True if the function takes these arguments after the value it is about, or if nobody can know."""
    if node.dyn_args is not None or node.dyn_kwargs is not None:
        return True
    first = given + (1 if hasattr(function, "jinja_pass_arg") else 0)
    try:
        inspect.signature(function).bind(*[None] * (first + len(args)), **dict.fromkeys(_names(kwargs)))
    except TypeError:
        return False
    return True


def _names(kwargs: Iterable[nodes.Node]) -> Iterator[str]:
    for pair in kwargs:
        if isinstance(pair, nodes.Keyword):
            yield pair.key
