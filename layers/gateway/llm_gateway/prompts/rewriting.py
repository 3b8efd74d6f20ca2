"""Rewriting a template's syntax tree, so that what Jinja2 compiles to bare Python is paid for, too."""

from __future__ import annotations

from typing import TypeVar

from jinja2 import nodes
from jinja2.visitor import NodeTransformer

# Names of filters; no tag can be written with them.
ROUNDS = "~rounds"
CONCAT = "~concat"
COMPARED = "~compared"
TAKEN = "~taken"
BODY = "~body"

_NODES_PER_STEP = 4
_Body = TypeVar("_Body", nodes.Macro, nodes.CallBlock, nodes.Block)


def metered(tree: nodes.Template) -> nodes.Template:
    """The tree with every loop, `~`, comparison, slice and body sent through a filter; changes `tree`."""
    environment = tree.environment
    _Metering().visit(tree)
    if environment is not None:
        tree.set_environment(environment)
    return tree


class _Metering(NodeTransformer):
    """Visitors are named after the nodes they rewrite, as Jinja2 wants it."""

    def visit_For(self, node: nodes.For) -> nodes.Node:
        """A round costs what its body holds: there is no telling how long a body may be."""
        weight = _weight([*node.body, *([node.test] if node.test else [])])
        self.generic_visit(node)
        node.iter = _through(ROUNDS, _expression(node.iter), nodes.Const(weight))
        return node

    def visit_Macro(self, node: nodes.Macro) -> nodes.Node:
        return self._paid(node)

    def visit_CallBlock(self, node: nodes.CallBlock) -> nodes.Node:
        return self._paid(node)

    def visit_Block(self, node: nodes.Block) -> nodes.Node:
        return self._paid(node)

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:
        self.generic_visit(node)
        return _through(CONCAT, nodes.Tuple(node.nodes, "load", lineno=node.lineno))

    def visit_Compare(self, node: nodes.Compare) -> nodes.Node:
        """Against a literal the effort is bounded by what stands in the template."""
        self.generic_visit(node)
        if len(node.ops) == 1 and _literal(node.ops[0].expr):
            return node
        node.expr = _through(COMPARED, node.expr)
        for operand in node.ops:
            operand.expr = _through(COMPARED, operand.expr)
        return node

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Node:
        """A slice is a copy; a single item is there already."""
        self.generic_visit(node)
        return _through(TAKEN, node) if isinstance(node.arg, nodes.Slice) and node.ctx == "load" else node

    def visit_Pair(self, node: nodes.Pair) -> nodes.Node:
        """The hash of a key walks through all of it."""
        self.generic_visit(node)
        if not isinstance(node.key, nodes.Const):
            node.key = _through(COMPARED, node.key)
        return node

    def _paid(self, node: _Body) -> _Body:
        weight = _weight(node.body)
        self.generic_visit(node)
        paid = _through(BODY, nodes.Const(weight, lineno=node.lineno))
        node.body.insert(0, nodes.ExprStmt(paid, lineno=node.lineno))
        return node


def _through(name: str, node: nodes.Expr, *arguments: nodes.Expr) -> nodes.Filter:
    return nodes.Filter(node, name, list(arguments), [], None, None, lineno=node.lineno)


def _expression(node: nodes.Node) -> nodes.Expr:
    assert isinstance(node, nodes.Expr)  # noqa: S101 (the parser takes nothing else there)
    return node


def _literal(node: nodes.Expr) -> bool:
    if isinstance(node, nodes.List | nodes.Tuple):
        return all(_literal(item) for item in node.items)
    return isinstance(node, nodes.Const)


def _weight(body: list[nodes.Node]) -> int:
    held = sum(1 for node in body for _ in node.find_all(nodes.Node))
    return 1 + (held + len(body)) // _NODES_PER_STEP
