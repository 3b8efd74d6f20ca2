"""Loads the packages of openai's types when somebody first asks them for something.

`import openai` loads several hundred modules that describe requests and answers of APIs which the gateway
does not call; they are half of its import. With this in place a package below `openai.types` is an empty
module until an attribute of it is asked for, and then it is the real one. It names no private part of the
SDK and uses nothing but Python's import system (PEP 451, PEP 562). Without it everything works the same,
only later.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from threading import RLock
from types import ModuleType
from typing import Any

from typing_extensions import override

_PACKAGE = "openai.types"


def load_types_lazily() -> None:
    """Put it in place, if openai is not loaded yet."""
    if "openai" not in sys.modules and not any(isinstance(f, _TypesFinder) for f in sys.meta_path):
        sys.meta_path.insert(0, _TypesFinder())


class _TypesFinder(MetaPathFinder):
    @override
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != _PACKAGE and not fullname.startswith(f"{_PACKAGE}."):
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.submodule_search_locations is not None and spec.loader is not None:
            spec.loader = _LazyLoader(spec.loader)
        return spec


class _LazyLoader(Loader):
    def __init__(self, real: Loader) -> None:
        self._real = real
        self._lock = RLock()

    @override
    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._real.create_module(spec)

    @override
    def exec_module(self, module: ModuleType) -> None:
        def load(name: str) -> Any:
            with self._lock:
                if vars(module).get("__getattr__") is load:
                    del module.__getattr__
                    self._real.exec_module(module)
            return getattr(module, name)

        module.__getattr__ = load  # type: ignore[method-assign]
