"""One call of a version that is about to get traffic; CodeDeploy waits for what came of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Literal, Protocol

Verdict = Literal["Succeeded", "Failed"]
Invoke = Callable[[Mapping[str, Any]], Awaitable[Mapping[str, Any]]]
"""Makes a call by direct invoke; the answer as call_prompt gives it."""

_NOT_ITS_FAULT = {"prompt_not_found"}


class CheckObserver(Protocol):
    """Told what came of it."""

    def note(self, message: str, **facts: Any) -> None:
        """Something an operator may want to know."""
        ...


async def check_deployment(
    event: Mapping[str, Any],
    request: Mapping[str, Any],
    invoke: Invoke,
    report: Callable[[str, str, Verdict], Awaitable[None]],
    observer: CheckObserver,
) -> dict[str, Any]:
    """Call the new version in test mode and tell CodeDeploy whether to go on.

    A prompt that is not there is no reason to stop: the version has found that out by itself. Any other
    error is, and so is an invoke that fails.

    Args:
        event: CodeDeploy's.
        request: What to call.
        invoke: Calls the new version.
        report: Takes the ids of the deployment and of the hook, and the verdict.
        observer: Logs.
    """
    try:
        answer = await invoke({**request, "test_mode": True})
        error = answer.get("error") or {}
        code = error.get("code") if "text" not in answer else None
    except Exception as failure:
        code = type(failure).__name__
    verdict: Verdict = "Succeeded" if code is None or code in _NOT_ITS_FAULT else "Failed"
    observer.note("deployment checked", verdict=verdict, problem=code)
    await report(event["DeploymentId"], event["LifecycleEventHookExecutionId"], verdict)
    return {"verdict": verdict, "problem": code}
