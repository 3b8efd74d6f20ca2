"""One Lambda environment as a process: what importing a handler, its first call and a warm one cost.

`python -I -S -B environment.py JSON`: only the standard library and the folders that the JSON names
can be imported, and nothing is written. The costs are the last line on standard error.
"""

from __future__ import annotations

import importlib.util
import json
import resource
import sys
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any


class LambdaContext:
    """What Lambda passes beside the event."""

    function_name = "benchmark"
    memory_limit_in_mb = 512
    invoked_function_arn = "arn:aws:lambda:us-east-1:123456789012:function:benchmark"

    def __init__(self) -> None:
        self.aws_request_id = str(uuid.uuid4())

    def get_remaining_time_in_millis(self) -> int:
        """As if nothing had been spent yet."""
        return 60_000


def load(file: Path) -> Any:
    """The module in `file`, imported as Lambda imports a handler."""
    spec = importlib.util.spec_from_file_location("app", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["app"] = module  # pydantic looks up the names of annotations there
    spec.loader.exec_module(module)
    return module


def succeeded(answer: Mapping[str, Any]) -> bool:
    """True unless the answer is an error, of whatever entrance."""
    return "error" not in answer and answer.get("statusCode", 200) == 200


def measure(file: Path, event: Mapping[str, Any], calls: int) -> Mapping[str, float]:
    """CPU milliseconds above the bare interpreter; modules and megabytes after `calls` calls."""
    began = _cpu_ms()
    handler: Callable[[Mapping[str, Any], LambdaContext], dict[str, Any]] = load(file).handler
    imported = _cpu_ms()
    answer = handler(event, LambdaContext())
    called = _cpu_ms()
    assert succeeded(answer), answer
    for _ in range(calls - 1):
        handler(event, LambdaContext())
    return {
        "import_ms": imported - began,
        "cold_ms": called - began,
        "modules": len(sys.modules),
        "memory_mb": _peak_mb(),
    }


def _cpu_ms() -> float:
    """Of every thread, in user mode and in the kernel."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return 1000 * (usage.ru_utime + usage.ru_stime)


def _peak_mb() -> float:
    """Peak of the resident memory; `ru_maxrss` would count the process that started this one, too."""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1_000_000  # bytes on macOS
    lines = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
    return int(lines["VmHWM"].split()[0]) * 1024 / 1_000_000


if __name__ == "__main__":
    asked = json.loads(sys.argv[1])
    sys.path[:0] = asked["folders"]
    costs = measure(Path(asked["file"]), json.loads(Path(asked["event"]).read_text()), asked["calls"])
    print(json.dumps(costs), file=sys.stderr)
