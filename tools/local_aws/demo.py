"""The gateway's story on a local AWS, as a transcript."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from local_aws import emulator
from local_aws.emulator import ROOT
from local_aws.session import PROMPTS, deploy_with_prompts, progress, wait_until
from local_aws.stack import Stack

_PROMPT = "support/reply.prompt"
_TICKET = "My parcel is three days late."
_VARIABLES = {"user": {"name": "Ada"}, "ticket": _TICKET}
_SORTED = "support/classify.prompt"
_EDIT = "Sign every reply with 'The parcel people'."


class Demo:
    """Tells each chapter and keeps what the calls cost, to compare it with the statistics."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._started = datetime.now(UTC)
        self._answers: list[dict[str, Any]] = []
        self._replays = 0
        self._shown: list[str] = []

    def run(self) -> None:
        """Every chapter in order; one that does not hold raises."""
        self.list_prompts()
        self.describe()
        self.call()
        self.call_with_missing_variable()
        self.edit_and_call()
        self.invoke()
        self.repeat()
        self.structured()
        self.queue()
        self.canary_and_rollback()
        self.who_may_call()
        self.statistics()
        self.log_line()
        self.usage_table()
        self.close()

    def list_prompts(self) -> None:
        """What can be called."""
        _title("1. What can be called", "GET /v1/prompts")
        prompts = self._get("/v1/prompts")["prompts"]
        for prompt in prompts:
            needs = ", ".join(prompt["required_variables"]) or "nothing"
            _tell(f"{prompt['path']:<36} {prompt['size_bytes']:>5} bytes   needs {needs}")
        self._shown.append(f"{len(prompts)} prompts listed")

    def describe(self) -> None:
        """What one prompt needs."""
        _title("2. What one of them needs", f"GET /v1/prompts/{_PROMPT}")
        metadata = self._get(f"/v1/prompts/{_PROMPT}")
        for name in ("description", "model", "version", "size_bytes", "last_modified", "required_variables"):
            _tell(f"{name:<20} {_text(metadata[name])}")
        self._shown.append("metadata of one")

    def call(self) -> None:
        """An answer, and what it cost."""
        _title("3. A call", f"POST /v1/call  {json.dumps(self._request())}")
        self._tell_answer(self._call(self._request()))
        self._shown.append("a prompt called")

    def call_with_missing_variable(self) -> None:
        """An error that says what to do."""
        _title("4. A variable forgotten", "POST /v1/call without user.name")
        response = self._stack.request(
            "POST", "/v1/call", body={**self._request(), "variables": {"ticket": "?"}}
        )
        error = response.json()["error"]
        _check(
            response.status_code == 400 and error["details"]["missing"] == ["user.name"],
            "the variable is named",
        )
        _tell(f"HTTP {response.status_code} {error['code']}: {error['message']}")
        self._shown.append("a missing variable named")

    def edit_and_call(self) -> None:
        """An edit, served without a deployment."""
        _title("5. The prompt is edited", f"upload {_PROMPT} with one more sentence")
        source = (PROMPTS / _PROMPT).read_text(encoding="utf-8")
        before = self._answers[-1]["prompt"]["version"]
        uploaded = time.monotonic()
        version = self._stack.upload(_PROMPT, f"{source.rstrip()}\n{_EDIT}\n".encode())
        calls = 0

        def served() -> bool:
            nonlocal calls
            calls += 1
            return bool(self._call(self._request())["prompt"]["version"] == version)

        wait_until(served, "the edit is served")
        _tell(f"version {before} until then, {version} from now on")
        took_ms = 1000 * (time.monotonic() - uploaded)
        _tell(f"served {took_ms:.0f} ms after the upload began ({calls} calls asked)")
        self._tell_answer(self._answers[-1])
        self._shown.append("an edit served without a deployment")

    def invoke(self) -> None:
        """The same call by Lambda invoke."""
        event = ROOT / "events" / "call_prompt_direct.json"
        _title("6. Called by another function", f"lambda invoke with events/{event.name}")
        answer = self._stack.invoke(json.loads(event.read_text(encoding="utf-8")))
        _check("error" not in answer, "the invoke is answered")
        self._answers.append(answer)
        self._tell_answer(answer)
        self._shown.append("a direct invoke")

    def repeat(self) -> None:
        """The same call twice, made and paid once."""
        _title("7. A lost connection", "POST /v1/call twice with Idempotency-Key: order-1017")
        request = {**self._request(), "idempotency_key": "order-1017"}
        first = self._call(request)
        response = self._stack.request("POST", "/v1/call", body=request)
        again = response.json()
        same = (again["call_id"], again["text"]) == (first["call_id"], first["text"])
        _check(same and response.headers["idempotent-replayed"] == "true", "the first answer comes again")
        _tell(f"first      call {first['call_id']}, {first['latency_ms']} ms, USD {first['cost_usd']}")
        self._replays += 1
        _tell(f"again      call {again['call_id']}, Idempotent-Replayed: true, nothing called, nothing paid")
        self._shown.append("a repeated call answered again and paid once")

    def structured(self) -> None:
        """JSON that fits a schema."""
        _title("8. JSON that fits", f"POST /v1/call {_SORTED}, whose front matter has an output.schema")
        variables = {"ticket": _TICKET, "queues": ["delivery", "billing"]}
        answer = self._call({"prompt": _SORTED, "variables": variables, "calling_service": "shop"})
        _check(isinstance(answer["parsed"], dict), "the answer is a value")
        _tell(f"parsed     {json.dumps(answer['parsed'])}")
        self._shown.append("an answer as a value that fits its schema")

    def queue(self) -> None:
        """A call that nobody waits for, and one that cannot be made."""
        _title(
            "9. Calls that nobody waits for",
            "two messages into the queue of calls, one without its variables",
        )
        event = ROOT / "events" / "call_prompt_async_invoke.json"
        request = json.loads(event.read_text(encoding="utf-8"))
        self._stack.queue_call(request)
        self._stack.queue_call({**request, "variables": {}, "correlation_id": "ticket-1018"})
        answer, failure = self._result("CallAnswersUrl"), self._result("CallFailuresUrl")
        self._answers.append(answer)
        _tell(f"answers    {answer['correlation_id']}: {answer['text']}")
        _tell(f"failures   {failure['correlation_id']}: {failure['error']['message']}")
        self._shown.append("queued calls, answered and refused into queues")

    def _result(self, output: str) -> dict[str, Any]:
        found: list[dict[str, Any]] = []

        def arrived() -> bool:
            found.extend(self._stack.results(output))
            return bool(found)

        wait_until(arrived, f"a result is in {output}")
        return found[0]

    def canary_and_rollback(self) -> None:
        """A new version for some callers, and back, without an upload."""
        versions = [a["prompt"]["version"] for a in self._answers if a["prompt"]["path"] == _PROMPT]
        old, new = versions[0], versions[-1]
        _title("10. A canary, and a rollback", "llm-gateway label, then 20 callers; llm-gateway rollback")
        self._command("label", _PROMPT, "production", old)
        self._command("label", _PROMPT, "production", old, "--canary", new, "--percent", "30")
        wait_until(lambda: len(set(self._labelled().values())) == 2, "the canary is served")
        first = self._settled()
        again = self._labelled()
        _check(first == again, "every caller keeps its version")
        canaries = [caller for caller, version in first.items() if version == new]
        _tell(
            f"{len(canaries)} of {len(first)} callers get the canary, and get it again: {', '.join(canaries)}"
        )
        self._command("rollback", _PROMPT, "production")
        wait_until(lambda: set(self._labelled().values()) == {old}, "the rollback is served")
        _tell("every caller gets the old version again; nothing was uploaded")
        self._shown.append("a canary for some callers, and a rollback without an upload")

    def _settled(self) -> dict[str, str]:
        """Who gets which version once every environment has looked again."""
        time.sleep(1.5)
        return self._labelled()

    def _labelled(self) -> dict[str, str]:
        callers = [f"customer-{number}" for number in range(20)]
        request = {**self._request(), "label": "production"}
        return {c: self._call({**request, "sticky_key": c})["prompt"]["version"] for c in callers}

    def _command(self, *arguments: str) -> None:
        """Show what the command line says."""
        _tell(self._said(*arguments).replace("\n", "\n   "))

    def _said(self, *arguments: str) -> str:
        """Run the command line on the local AWS; what it says."""
        run = subprocess.run(
            [str(Path(sys.executable).with_name("llm-gateway")), *arguments],
            env={**self._stack.command_environment, "PATH": "/usr/bin:/bin"},
            capture_output=True,
            text=True,
            check=False,
        )
        _check(run.returncode == 0, f"the command succeeds: {run.stderr.strip()}")
        return run.stdout.strip()

    def who_may_call(self) -> None:
        """A key, and what it does not open."""
        arguments = ("keys", "create", "newsletter", "--prompt", "marketing/", "--expires-in", "90d")
        _title("11. Who may call", f"llm-gateway {' '.join(arguments)}")
        key = self._said(*arguments)
        _tell(f"{key[:17]}… is shown once; the gateway keeps a hash of it")
        call = {"prompt": "support/reply", "variables": _VARIABLES}
        for what, body, given in (
            ("no key", call, ""),
            ("a prompt out of its reach", call, key),
            ("another service's name", {"prompt": "marketing/subject_lines", "calling_service": "shop"}, key),
        ):
            error = self._stack.request("POST", "/v1/call", body=body, key=given).json()["error"]
            _check(error["code"] in ("unauthorized", "forbidden"), f"{what} is refused")
            _tell(f"{what:<28} {error['code']}: {error['message']}")
        listed = self._stack.request("GET", "/v1/prompts", key=key).json()["prompts"]
        _tell(f"{'what it sees':<28} {', '.join(prompt['path'] for prompt in listed)}")
        self._shown.append("a key that opens what it is for, and nothing else")

    def statistics(self) -> None:
        """Sums that equal the answers."""
        _title("12. What it all cost", "GET /v1/usage?group_by=calling_service&group_by=model")
        calls = len(self._answers) + self._replays
        wait_until(lambda: self._usage()["totals"]["requests"] >= calls, "every call is counted")
        usage = self._usage()
        _tell(f"{'service':<18}{'model':<16}{'calls':>6}{'input':>8}{'output':>8}{'USD':>14}")
        for row in usage["buckets"]:
            service = row["group"]["calling_service"] or "(not named)"
            _tell(f"{service:<18}{row['group']['model']:<16}{_numbers(row['totals'])}")
        _tell(f"{'sum':<34}{_numbers(usage['totals'])}")
        self._compare(usage["totals"])
        self._shown.append(f"statistics equal to the {len(self._answers)} answers, to the token and the cent")

    def log_line(self) -> None:
        """A log without content."""
        _title("13. What the log knows", "CloudWatch Logs, the last call's line")
        call_id = self._answers[-1]["call_id"]
        found: list[dict[str, Any]] = []

        def logged() -> bool:
            found[:] = [line for line in self._stack.log_lines() if line.get("call_id") == call_id]
            return bool(found)

        wait_until(logged, "the call is logged")
        _tell(json.dumps(found[0]))
        _check(_TICKET not in json.dumps(list(self._stack.log_lines())), "no variable is in the log")
        self._shown.append("a log without content")

    def usage_table(self) -> None:
        """The same sums for an operator's eyes, and the ledger behind them."""
        _title("14. Where the money goes", "llm-gateway usage show --days 2")
        self._command("usage", "show", "--days", "2")
        self._shown.append("who spent what, as a table with bars")

    def close(self) -> None:
        """What was shown."""
        _title("Shown", "")
        for shown in self._shown:
            _tell(f"✓ {shown}")

    def _request(self) -> dict[str, Any]:
        return {"prompt": "support/reply", "variables": _VARIABLES, "calling_service": "shop"}

    def _call(self, request: dict[str, Any]) -> dict[str, Any]:
        response = self._stack.request("POST", "/v1/call", body=request)
        _check(response.status_code == 200, f"the call is answered, not {response.text}")
        answer: dict[str, Any] = response.json()
        self._answers.append(answer)
        return answer

    def _get(self, path: str) -> dict[str, Any]:
        response = self._stack.request("GET", path)
        _check(response.status_code == 200, f"{path} answers, not {response.text}")
        answer: dict[str, Any] = response.json()
        return answer

    def _usage(self) -> dict[str, Any]:
        start = self._started.isoformat().replace("+00:00", "Z")
        end = (datetime.now(UTC) + timedelta(hours=1)).isoformat().replace("+00:00", "Z")
        return self._get(f"/v1/usage?start={start}&end={end}&group_by=calling_service&group_by=model")

    def _compare(self, totals: dict[str, Any]) -> None:
        calls = len(self._answers) + self._replays
        _check(totals["requests"] == calls, "every call is counted once")
        for name in ("input_tokens", "output_tokens"):
            _check(totals[name] == sum(a["usage"][name] for a in self._answers), f"{name} equal the answers'")
        cost = sum((Decimal(answer["cost_usd"] or 0) for answer in self._answers), Decimal(0))
        _check(Decimal(totals["cost_usd"]) == cost, "the cost equals the answers'")

    def _tell_answer(self, answer: dict[str, Any]) -> None:
        usage = answer["usage"]
        _tell(f"answer     {answer['text']}")
        _tell(f"prompt     {answer['prompt']['path']} @ {answer['prompt']['version']}")
        mode = "   (test mode: nobody was paid)" if answer["test_mode"] else ""
        _tell(f"model      {answer['provider']}/{answer['model']}{mode}")
        _tell(
            f"tokens     {usage['input_tokens']} in, {usage['output_tokens']} out   USD {answer['cost_usd']}"
        )
        _tell(f"latency    {answer['latency_ms']} ms in {answer['attempts']} attempt(s)")


def main() -> int:
    """Start everything, tell the story, end everything."""
    began = time.monotonic()
    progress("starting the local AWS")
    with emulator.running("demo") as running:
        Demo(deploy_with_prompts(running, progress, TestLatency="none")).run()
    print(f"\nAll of it held, on a local AWS that is gone again, in {time.monotonic() - began:.0f} s.")
    return 0


def _check(holds: bool, claim: str) -> None:
    if not holds:
        raise SystemExit(f"The demo failed: it is not true that {claim}.")


def _title(title: str, request: str) -> None:
    bold, dim, plain = ("\033[1m", "\033[2m", "\033[0m") if sys.stdout.isatty() else ("", "", "")
    print(
        f"\n{bold}{title}{plain}\n{dim}{request}{plain}" if request else f"\n{bold}{title}{plain}", flush=True
    )


def _tell(line: str) -> None:
    print(f"   {line}", flush=True)


def _text(value: object) -> str:
    return ", ".join(value) if isinstance(value, list) else str(value)


def _numbers(totals: dict[str, Any]) -> str:
    tokens = f"{totals['input_tokens']:>8}{totals['output_tokens']:>8}"
    return f"{totals['requests']:>6}{tokens}{totals['cost_usd']:>14}"
