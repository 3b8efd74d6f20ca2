"""Which variables a template cannot do without, found on its syntax tree.

A variable is a dotted path of names (`user.name`). What the template sets itself, walks over in a
loop, guards with `is defined` or gives a `default` is not required.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from jinja2 import nodes

Path = tuple[str, ...]
_Bound = frozenset[str]
_Guarded = frozenset[Path]
_Visit = Callable[[nodes.Node, _Bound, _Guarded], _Bound]


def required_variables(template: nodes.Template, known: Iterable[str]) -> Mapping[str, int]:
    """Dotted names a caller must give, each with its first line, in order of appearance.

    Args:
        template: The parsed template.
        known: Names the environment itself provides, such as `range`.
    """
    found = _analysed(template, known)
    return {".".join(path): found.used[path] for path in _without_prefixes(found.required)}


def used_variables(template: nodes.Template, known: Iterable[str]) -> Mapping[Path, int]:
    """Every path that the template looks at, required or not, with its first line."""
    return _analysed(template, known).used


def _analysed(template: nodes.Template, known: Iterable[str]) -> _Analysis:
    analysis = _Analysis()
    analysis.visit_all(template.body, frozenset(known), frozenset())
    return analysis


def _without_prefixes(paths: Iterable[Path]) -> list[Path]:
    """`user` says nothing more once `user.name` is required."""
    unique = list(dict.fromkeys(paths))
    prefixes = {path[:length] for path in unique for length in range(1, len(path))}
    return [path for path in unique if path not in prefixes]


class _Analysis:
    """One walk over a template.

    `bound` holds the names the template defines itself, `guarded` the paths whose presence was
    tested on the way to the current node.
    """

    def __init__(self) -> None:
        self.required: list[Path] = []
        self.used: dict[Path, int] = {}

    def visit_all(
        self, body: Iterable[nodes.Node], bound: frozenset[str], guarded: frozenset[Path]
    ) -> frozenset[str]:
        for node in body:
            bound = self.visit(node, bound, guarded)
        return bound

    def visit(self, node: nodes.Node, bound: frozenset[str], guarded: frozenset[Path]) -> frozenset[str]:
        """Walk one node; return the names bound after it."""
        path = _path(node)
        if path is not None:
            self._use(path, node.lineno, bound, guarded)
            return bound
        handler: _Visit = getattr(self, f"_visit_{type(node).__name__.lower()}", self._visit_parts)
        return handler(node, bound, guarded)

    def _visit_parts(self, node: nodes.Node, bound: _Bound, guarded: _Guarded) -> _Bound:
        self.visit_all(node.iter_child_nodes(), bound, guarded)
        return bound

    def _visit_if(self, node: nodes.If, bound: _Bound, guarded: _Guarded) -> _Bound:
        """An `if` opens no scope: what any of its branches sets counts as set after it."""
        self.visit(node.test, bound, guarded)
        after = self.visit_all(node.body, bound, guarded | _defined(node.test))
        otherwise = guarded | _undefined(node.test)
        for branch in node.elif_:
            after |= self.visit(branch, bound, otherwise)
            otherwise |= _undefined(branch.test)
        return after | self.visit_all(node.else_, bound, otherwise)

    def _visit_condexpr(self, node: nodes.CondExpr, bound: _Bound, guarded: _Guarded) -> _Bound:
        self.visit(node.test, bound, guarded)
        self.visit(node.expr1, bound, guarded | _defined(node.test))
        if node.expr2 is not None:
            self.visit(node.expr2, bound, guarded | _undefined(node.test))
        return bound

    def _visit_and(self, node: nodes.And, bound: _Bound, guarded: _Guarded) -> _Bound:
        self.visit(node.left, bound, guarded)
        self.visit(node.right, bound, guarded | _defined(node.left))
        return bound

    def _visit_or(self, node: nodes.Or, bound: _Bound, guarded: _Guarded) -> _Bound:
        self.visit(node.left, bound, guarded)
        self.visit(node.right, bound, guarded | _undefined(node.left))
        return bound

    def _visit_filter(self, node: nodes.Filter, bound: _Bound, guarded: _Guarded) -> _Bound:
        if node.name not in ("default", "d") or node.node is None:
            return self._visit_parts(node, bound, guarded)
        self._optional(node.node, bound, guarded)
        self.visit_all([*node.args, *node.kwargs], bound, guarded)
        return bound

    def _visit_test(self, node: nodes.Test, bound: _Bound, guarded: _Guarded) -> _Bound:
        if node.name not in ("defined", "undefined"):
            return self._visit_parts(node, bound, guarded)
        self._optional(node.node, bound, guarded)
        return bound

    def _visit_call(self, node: nodes.Call, bound: _Bound, guarded: _Guarded) -> _Bound:
        """`user.items()` needs `user`; a method is no field."""
        called = node.node.node if isinstance(node.node, nodes.Getattr) else node.node
        self.visit_all([called, *node.args, *node.kwargs], bound, guarded)
        return bound

    def _visit_for(self, node: nodes.For, bound: _Bound, guarded: _Guarded) -> _Bound:
        self.visit(node.iter, bound, guarded)
        inner = bound | _names(node.target) | {"loop"}
        if node.test is not None:
            self.visit(node.test, inner, guarded)
        self.visit_all(node.body, inner, guarded)
        self.visit_all(node.else_, bound, guarded)
        return bound

    def _visit_assign(self, node: nodes.Assign, bound: _Bound, guarded: _Guarded) -> _Bound:
        self.visit(node.node, bound, guarded)
        return bound | _names(node.target)

    def _visit_assignblock(self, node: nodes.AssignBlock, bound: _Bound, guarded: _Guarded) -> _Bound:
        self.visit_all(node.body, bound, guarded)
        return bound | _names(node.target)

    def _visit_with(self, node: nodes.With, bound: _Bound, guarded: _Guarded) -> _Bound:
        self.visit_all(node.values, bound, guarded)
        self.visit_all(node.body, bound.union(*(_names(target) for target in node.targets)), guarded)
        return bound

    def _visit_macro(self, node: nodes.Macro, bound: _Bound, guarded: _Guarded) -> _Bound:
        self._body_with_arguments(node, bound | {node.name}, guarded)
        return bound | {node.name}

    def _visit_callblock(self, node: nodes.CallBlock, bound: _Bound, guarded: _Guarded) -> _Bound:
        self.visit(node.call, bound, guarded)
        self._body_with_arguments(node, bound, guarded)
        return bound

    def _body_with_arguments(
        self, node: nodes.Macro | nodes.CallBlock, bound: _Bound, guarded: _Guarded
    ) -> None:
        self.visit_all(node.defaults, bound, guarded)
        inner = bound.union(*(_names(argument) for argument in node.args))
        self.visit_all(node.body, inner | {"caller", "varargs", "kwargs"}, guarded)

    def _use(self, path: Path, line: int, bound: frozenset[str], guarded: frozenset[Path]) -> None:
        if path[0] in bound:
            return
        self.used.setdefault(path, line)
        if not any(path[:length] in guarded for length in range(1, len(path) + 1)):
            self.required.append(path)

    def _optional(self, node: nodes.Node, bound: frozenset[str], guarded: frozenset[Path]) -> None:
        """A path whose own last step may be missing; the steps before it may not, under StrictUndefined."""
        path = _path(node)
        if path is None:
            self.visit(node, bound, guarded)
            return
        if path[0] not in bound:
            self.used.setdefault(path, node.lineno)
        if len(path) > 1:
            self._use(path[:-1], node.lineno, bound, guarded)


def _path(node: nodes.Node) -> Path | None:
    """`user.name` or `user['name']` as ('user', 'name'); None if the node is no such chain.

    A name with a dot in it cannot be told apart in a dotted path, so it ends the chain.
    """
    steps: list[str] = []
    while True:
        match node:
            case nodes.Name(ctx="load"):
                return (node.name, *reversed(steps))
            case nodes.Getattr():
                steps.append(node.attr)
            case nodes.Getitem(arg=nodes.Const(value=str() as key)) if "." not in key:
                steps.append(key)
            case _:
                return None
        node = node.node


def _names(target: nodes.Node) -> frozenset[str]:
    names = [target] if isinstance(target, nodes.Name) else target.find_all(nodes.Name)
    return frozenset(name.name for name in names)


def _defined(test: nodes.Node) -> frozenset[Path]:
    """Paths that are certainly there if `test` holds."""
    match test:
        case nodes.Test(name="defined"):
            path = _path(test.node)
            return frozenset() if path is None else frozenset({path})
        case nodes.And():
            return _defined(test.left) | _defined(test.right)
        case nodes.Not():
            return _undefined(test.node)
    return frozenset()


def _undefined(test: nodes.Node) -> frozenset[Path]:
    """Paths that are certainly there if `test` does not hold."""
    match test:
        case nodes.Test(name="undefined"):
            path = _path(test.node)
            return frozenset() if path is None else frozenset({path})
        case nodes.Or():
            return _undefined(test.left) | _undefined(test.right)
        case nodes.Not():
            return _defined(test.node)
    return frozenset()
