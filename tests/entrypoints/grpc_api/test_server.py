"""What the server does whatever the method: deadlines, cancellation, callers, limits, health, reflection."""

from __future__ import annotations

import asyncio
import socket
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2
from grpc_health.v1.health_pb2_grpc import HealthStub
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha.reflection_pb2_grpc import ServerReflectionStub

from llm_gateway.access.caller import Caller, OpenCallers, Scopes
from llm_gateway.access.errors import Unauthorized
from llm_gateway.api.calls import CallRequest, CallResponse
from llm_gateway.calls.admission import CallLimit
from llm_gateway.deadline import Deadline
from llm_gateway.entrypoints.grpc_api.generated import llm_gateway_pb2 as pb
from llm_gateway.entrypoints.grpc_api.generated.llm_gateway_pb2_grpc import LlmGatewayStub
from llm_gateway.entrypoints.grpc_api.health import NAME, HealthService
from llm_gateway.entrypoints.grpc_api.keyless import MOST_KEYLESS
from llm_gateway.entrypoints.grpc_api.server import GrpcOptions, GrpcServer, GrpcServices
from llm_gateway.errors import ConfigurationError, InvalidParameter
from tests import upstream as loopback
from tests.entrypoints.grpc_api.running_server import (
    MAX_MESSAGE_BYTES,
    House,
    Plan,
    call,
    eventually,
    refusal,
    run,
)
from tests.upstream import Reply, Upstream

SILENCE = Reply(sends="nothing", then="silence")
SERVICE = "llm_gateway.v1.LlmGateway"
STATES = health_pb2.HealthCheckResponse


async def code_of(answer: Any) -> grpc.StatusCode:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await answer
    code: grpc.StatusCode = caught.value.code()
    return code


async def hanging(at: House, vendor: Upstream, **fields: Any) -> Any:
    """A call whose vendor has been asked and does not answer."""
    asked = len(vendor.requests)
    answer = at.stub.CallPrompt(call(**fields))
    await eventually(lambda: len(vendor.requests) > asked)
    return answer


def test_the_clients_deadline_is_the_calls_deadline(tmp_path: Path) -> None:
    async def scenario(at: House) -> None:
        assert await code_of(at.stub.CallPrompt(call(), timeout=1)) is grpc.StatusCode.DEADLINE_EXCEEDED
        await eventually(vendor.disconnected.is_set)
        [record] = await at.records()
        # Whichever of the two clocks of the server rings first.
        assert (record.status, record.error_code) in {
            ("timed_out", "provider_timeout"),
            ("failed", "cancelled"),
        }
        assert (record.attempts, record.cost_usd) == (1, None)
        await eventually(lambda: at.limiter.taken == 0)

    with loopback.running() as vendor:
        vendor.answers(SILENCE)
        run(Plan(tmp_path, vendor.url), scenario)


def test_a_client_that_cancels_stops_the_model_and_is_on_the_ledger(tmp_path: Path) -> None:
    async def scenario(at: House) -> None:
        answer = await hanging(at, vendor, calling_service="shop")
        answer.cancel()
        await eventually(vendor.disconnected.is_set)
        [record] = await at.records()
        assert (record.status, record.error_code, record.calling_service) == ("failed", "cancelled", "shop")
        await eventually(lambda: bool(at.observer.notes))
        assert at.observer.notes[0][1]["status"] == 499
        assert at.limiter.taken == 0

    with loopback.running() as vendor:
        vendor.answers(SILENCE)
        run(Plan(tmp_path, vendor.url), scenario)


def test_a_client_whose_connection_is_gone_is_one_that_cancels(tmp_path: Path) -> None:
    async def scenario(at: House) -> None:
        await hanging(at, vendor)
        await at.channel.close()
        await eventually(vendor.disconnected.is_set)
        assert [record.error_code for record in await at.records()] == ["cancelled"]

    with loopback.running() as vendor:
        vendor.answers(SILENCE)
        run(Plan(tmp_path, vendor.url), scenario)


def test_after_a_cancellation_the_same_key_is_answered_anew(tmp_path: Path) -> None:
    async def scenario(at: House) -> None:
        (await hanging(at, vendor, idempotency_key="k")).cancel()
        await at.records()
        await eventually(lambda: at.limiter.taken == 0)
        answer = await at.stub.CallPrompt(call(idempotency_key="k"))
        assert (answer.text, answer.replayed) == ("Hello.", False)

    with loopback.running() as vendor:
        vendor.answers(SILENCE)
        run(Plan(tmp_path, vendor.url), scenario)


def test_a_vendor_that_is_down_is_told_as_something_that_may_pass(tmp_path: Path) -> None:
    async def scenario(at: House) -> None:
        refused = await refusal(at.stub.CallPrompt(call(), timeout=30))
        assert (refused.code.name, refused.info.reason) == ("UNAVAILABLE", "provider_unavailable")
        assert refused.info.metadata["retryable"] == "true"

    with loopback.running() as vendor:
        vendor.answers(Reply(503, {"error": {"message": "SECRET"}}))
        run(Plan(tmp_path, vendor.url), scenario)


class Heard:
    """Answers no call, and keeps how much time each had and who made it."""

    def __init__(self, error: Exception) -> None:
        self.error = error
        self.seconds: list[float] = []
        self.callers: list[Caller] = []

    async def call_prompt(
        self, request: CallRequest, request_id: str, time_left: Deadline, caller: Caller
    ) -> CallResponse:
        self.seconds.append(time_left.remaining_s())
        self.callers.append(caller)
        raise self.error


@pytest.mark.parametrize(
    ("timeout_s", "least_s", "most_s"),
    [
        (None, 110, 120),
        (40, 30, 41),  # gRPC rounds up what it sends
        (500, 110, 120),
    ],
)
def test_without_a_deadline_of_the_client_a_call_has_the_longest_time_there_is(
    tmp_path: Path, timeout_s: float | None, least_s: float, most_s: float
) -> None:
    async def scenario(at: House) -> None:
        await refusal(at.stub.CallPrompt(call(), timeout=timeout_s))
        [seconds] = calls.seconds
        assert least_s < seconds <= most_s

    calls = Heard(InvalidParameter("no"))
    run(Plan(tmp_path, calls=calls), scenario)


def test_a_defect_is_told_and_logged_without_anything_of_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(at: House) -> None:
        refused = await refusal(at.stub.CallPrompt(call()))
        assert (refused.code.name, refused.info.reason) == ("INTERNAL", "internal_error")
        assert "SECRET" not in str(refused)
        assert [type(crash) for crash in at.observer.crashes] == [RuntimeError]

    run(Plan(tmp_path, calls=Heard(RuntimeError("SECRET"))), scenario)
    assert "SECRET" not in caplog.text


def test_an_error_with_much_to_tell_comes_through(tmp_path: Path) -> None:
    async def scenario(at: House) -> None:
        refused = await refusal(at.stub.CallPrompt(call()))
        assert (refused.code.name, refused.info.reason) == ("INVALID_ARGUMENT", "invalid_parameter")
        assert refused.message.endswith("…")

    problems: Any = [{"param": f"variables.{n}", "problem": "ä" * 500} for n in range(200)]
    details = {"problems": problems, "missing": ["日本語" * 100] * 50}
    run(
        Plan(tmp_path, calls=Heard(InvalidParameter("日本語 " * 2_000, param="x" * 5_000, details=details))),
        scenario,
    )


class OneKey:
    """Knows `Bearer good`."""

    def __init__(self, scopes: Scopes) -> None:
        self._caller = Caller("shop", "0123", scopes)

    async def authenticate(self, authorization: str | None) -> Caller:
        if authorization != "Bearer good":
            raise Unauthorized
        return self._caller


GOOD = (("authorization", "Bearer good"),)


@pytest.mark.parametrize(
    "metadata",
    [
        (),
        (("authorization", "Bearer bad"),),
        (("authorization", "  "),),
        (("authorization-bin", b"Bearer good"),),
        (("authorization-bin", b"\xff\x00\xfe"), ("x-odd", " ~!\"'")),
    ],
)
@pytest.mark.parametrize("method", ["CallPrompt", "ListPrompts", "GetPromptMetadata", "GetUsageStats"])
def test_nobody_is_let_in_without_a_key(tmp_path: Path, method: str, metadata: Any) -> None:
    async def scenario(at: House) -> None:
        request = getattr(pb, f"{method}Request")()
        refused = await refusal(getattr(at.stub, method)(request, metadata=metadata))
        assert (refused.code.name, refused.info.reason) == ("UNAUTHENTICATED", "unauthorized")
        assert at.usage.records == {}

    run(Plan(tmp_path, callers=OneKey(Scopes())), scenario)


def test_whoever_has_a_key_calls_in_its_name(tmp_path: Path) -> None:
    async def scenario(at: House) -> None:
        metadata = (*GOOD, ("x-odd-bin", b"\xff\x00\xfe"), ("x-odd", " ~!\"'"))
        await at.stub.CallPrompt(call(), metadata=metadata)
        assert [record.calling_service for record in await at.records()] == ["shop"]
        other = await refusal(at.stub.CallPrompt(call(calling_service="bank"), metadata=GOOD))
        assert (other.code.name, other.info.reason) == ("PERMISSION_DENIED", "forbidden")
        assert list(other.fields) == ["calling_service"]

    run(Plan(tmp_path, callers=OneKey(Scopes())), scenario)


def test_a_key_is_held_to_its_scopes(tmp_path: Path) -> None:
    async def scenario(at: House) -> None:
        for refused in (
            await refusal(at.stub.ListPrompts(pb.ListPromptsRequest(), metadata=GOOD)),
            await refusal(at.stub.CallPrompt(call(), metadata=GOOD)),
            await refusal(
                at.stub.GetPromptMetadata(pb.GetPromptMetadataRequest(path="hello"), metadata=GOOD)
            ),
        ):
            assert (refused.code.name, refused.info.reason) == ("PERMISSION_DENIED", "forbidden")
        assert at.usage.records == {}

    scopes = Scopes(methods=("CallPrompt", "GetPromptMetadata"), prompts=("support/",))
    run(Plan(tmp_path, callers=OneKey(scopes)), scenario)


def test_one_call_too_many_is_told_to_come_back_and_health_is_still_answered(tmp_path: Path) -> None:
    async def scenario(at: House) -> None:
        first = await hanging(at, vendor)
        for asked in (at.stub.CallPrompt(call()), at.stub.ListPrompts(pb.ListPromptsRequest())):
            refused = await refusal(asked)
            assert (refused.code.name, refused.info.reason) == ("RESOURCE_EXHAUSTED", "overloaded")
            assert (refused.retry_after_s, refused.info.metadata["retryable"]) == (1.0, "true")
        assert await state(at, SERVICE) == STATES.SERVING
        assert await services(at)
        first.cancel()
        await eventually(lambda: at.limiter.taken == 0)
        assert (await at.stub.CallPrompt(call())).text == "Hello."

    with loopback.running() as vendor:
        vendor.answers(SILENCE)
        run(Plan(tmp_path, vendor.url, places=1), scenario)


def test_a_message_over_the_limit_is_refused_by_grpc_itself(tmp_path: Path) -> None:
    async def scenario(at: House) -> None:
        large = call(variables={"name": "x" * MAX_MESSAGE_BYTES})
        assert await code_of(at.stub.CallPrompt(large)) is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert (await at.stub.CallPrompt(call())).text

    run(Plan(tmp_path), scenario)


@pytest.mark.parametrize("message", [b"\xff\xff\xff", b"\x0a\x02\xff\xfe", b"\x0a\x7fshort"])
def test_bytes_that_are_no_message_are_the_clients_mistake(tmp_path: Path, message: bytes) -> None:
    async def scenario(at: House) -> None:
        raw: Any = at.channel.unary_unary(f"/{SERVICE}/CallPrompt")
        refused = await refusal(raw(message))
        assert (refused.code.name, refused.info.reason) == ("INVALID_ARGUMENT", "malformed_message")

    run(Plan(tmp_path), scenario)


def test_a_method_that_there_is_not_is_unimplemented(tmp_path: Path) -> None:
    async def scenario(at: House) -> None:
        raw: Any = at.channel.unary_unary(f"/{SERVICE}/Nothing")
        assert await code_of(raw(b"")) is grpc.StatusCode.UNIMPLEMENTED

    run(Plan(tmp_path), scenario)


def health(at: House) -> Any:
    stub: Any = HealthStub  # its types know no methods
    return stub(at.channel)


async def state(at: House, service: str) -> int:
    answer = await health(at).Check(health_pb2.HealthCheckRequest(service=service))
    return int(answer.status)


def test_health_is_told_for_the_server_and_its_service(tmp_path: Path) -> None:
    async def scenario(at: House) -> None:
        for serving, told in ((None, STATES.SERVING), (False, STATES.NOT_SERVING), (True, STATES.SERVING)):
            if serving is not None:
                await at.server.set_serving(serving)
            assert [await state(at, name) for name in ("", SERVICE)] == [told, told]
        unknown = health(at).Check(health_pb2.HealthCheckRequest(service="nobody"))
        assert await code_of(unknown) is grpc.StatusCode.NOT_FOUND

    run(Plan(tmp_path), scenario)


def test_whoever_watches_hears_of_the_end_and_does_not_delay_it(tmp_path: Path) -> None:
    async def scenario(at: House) -> None:
        watch = health(at).Watch(health_pb2.HealthCheckRequest(service=SERVICE))
        assert (await watch.read()).status == STATES.SERVING
        await at.server.set_serving(False)
        assert (await watch.read()).status == STATES.NOT_SERVING
        await asyncio.wait_for(at.server.stop(3_600), 20)
        assert await watch.read() == grpc.aio.EOF

    run(Plan(tmp_path), scenario)


def test_calls_under_way_are_answered_before_the_server_stops(tmp_path: Path) -> None:
    async def scenario(at: House) -> None:
        answer = await hanging(at, vendor)
        await at.server.stop(60)
        assert (await answer).text == "Hello."
        assert [record.status for record in at.usage.records.values()] == ["answered"]
        await at.server.wait()

    with loopback.running() as vendor:
        vendor.answers(Reply(delay_s=0.5, body=loopback.chat_completion()))
        run(Plan(tmp_path, vendor.url), scenario)


def test_when_the_server_has_stopped_what_it_cut_off_is_on_the_ledger(tmp_path: Path) -> None:
    async def scenario(at: House) -> None:
        answer = await hanging(at, vendor)
        await at.server.stop(0.1)
        assert [record.error_code for record in at.usage.records.values()] == ["cancelled"]
        await code_of(answer)

    with loopback.running() as vendor:
        vendor.answers(SILENCE)
        run(Plan(tmp_path, vendor.url), scenario)


def reflected(at: House) -> Any:
    stub: Any = ServerReflectionStub  # its types know no asyncio
    question = reflection_pb2.ServerReflectionRequest(list_services="")
    return stub(at.channel).ServerReflectionInfo(iter([question]))


async def services(at: House) -> set[str]:
    return {
        service.name async for answer in reflected(at) for service in answer.list_services_response.service
    }


def test_reflection_lists_the_services(tmp_path: Path) -> None:
    async def scenario(at: House) -> None:
        own = "grpc.reflection.v1alpha.ServerReflection"
        assert await services(at) == {SERVICE, "grpc.health.v1.Health", own}

    run(Plan(tmp_path), scenario)


def test_reflection_can_be_switched_off(tmp_path: Path) -> None:
    async def scenario(at: House) -> None:
        assert await code_of(reflected(at).read()) is grpc.StatusCode.UNIMPLEMENTED

    run(Plan(tmp_path, reflection=False), scenario)


def test_it_listens_on_ipv6_as_well() -> None:
    async def scenario() -> None:
        services = GrpcServices(None, None, None, None, None, CallLimit(1))  # type: ignore[arg-type]
        server = GrpcServer(services, GrpcOptions("::1", 0, 1_000))
        port = await server.start()
        async with grpc.aio.insecure_channel(f"[::1]:{port}") as channel:
            stub: Any = HealthStub
            answer = await stub(channel).Check(health_pb2.HealthCheckRequest())
            assert answer.status == STATES.SERVING
        await server.stop(0)

    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        pytest.skip("this machine has no IPv6")
    asyncio.run(scenario())


def test_a_port_that_is_taken_is_told(tmp_path: Path) -> None:
    async def scenario(at: House) -> None:
        services: Any = GrpcServices(None, None, None, None, None, at.limiter)  # type: ignore[arg-type]
        second = GrpcServer(services, GrpcOptions("127.0.0.1", at.port, 1_000))
        with pytest.raises(ConfigurationError, match="is the port taken"):
            await second.start()

    run(Plan(tmp_path), scenario)


def test_twenty_clients_at_once_are_all_answered_and_counted(tmp_path: Path) -> None:
    async def scenario(at: House) -> None:
        answers = await asyncio.gather(*(at.stub.CallPrompt(call()) for _ in range(20)))
        assert len({answer.call_id for answer in answers}) == 20
        records = await at.records(20)
        assert sum(record.usage.total_tokens or 0 for record in records) == 20 * 1_200
        assert all(record.started_at <= datetime.now(UTC) for record in records)

    with loopback.running() as vendor:
        run(Plan(tmp_path, vendor.url, places=20), scenario)


def test_a_message_that_does_not_come_is_not_waited_for(tmp_path: Path) -> None:
    async def scenario(at: House) -> None:
        told = await refusal(at.channel.stream_unary(f"/{SERVICE}/CallPrompt")())
        assert (told.code, told.info.reason) == (grpc.StatusCode.DEADLINE_EXCEEDED, "request_timed_out")
        assert (at.limiter.taken, at.observer.crashes) == (0, [])
        assert (await at.stub.CallPrompt(call())).text

    run(Plan(tmp_path, options={"body_timeout_s": 0.2}), scenario)


def test_strangers_that_send_no_message_take_no_place_from_callers(tmp_path: Path) -> None:
    async def scenario(at: House) -> None:
        silent: Any = at.channel.stream_unary(f"/{SERVICE}/CallPrompt")
        told = await asyncio.gather(*(refusal(silent()) for _ in range(3)))
        assert {error.info.reason for error in told} == {"unauthorized"}
        assert (await at.stub.CallPrompt(call(), metadata=GOOD)).text

    options = {"body_timeout_s": 0.5, "max_calls": 4}
    run(Plan(tmp_path, callers=OneKey(Scopes()), options=options), scenario)


def test_streams_without_a_key_leave_callers_their_places_and_the_oldest_gives_way(tmp_path: Path) -> None:
    async def scenario(at: House) -> None:
        request = health_pb2.HealthCheckRequest(service=SERVICE)
        watches = []
        for _ in range(MOST_KEYLESS + 10):
            watches.append(health(at).Watch(request))
            assert (await watches[-1].read()).status == STATES.SERVING
        silent: list[Any] = [at.channel.stream_unary(f"/{NAME}/Check")() for _ in range(10)]
        await eventually(lambda: all(watch.done() for watch in watches[:10]))
        assert (await at.stub.CallPrompt(call(), metadata=GOOD)).text
        assert await state(at, SERVICE) == STATES.SERVING
        await at.server.set_serving(False)
        assert (await watches[-1].read()).status == STATES.NOT_SERVING
        assert await asyncio.wait_for(watches[0].code(), 10) is grpc.StatusCode.UNAVAILABLE
        for stream in (*watches, *silent):
            stream.cancel()

    run(Plan(tmp_path, callers=OneKey(Scopes()), options={"max_calls": MOST_KEYLESS + 15}), scenario)


def test_a_watcher_that_does_not_read_keeps_no_other_from_the_news() -> None:
    class Deaf:
        async def write(self, _: object) -> None:
            await asyncio.Event().wait()

    async def scenario() -> None:
        service = HealthService(SERVICE)
        await service.set_serving(True)
        watch = asyncio.create_task(service.Watch(health_pb2.HealthCheckRequest(service=SERVICE), Deaf()))
        await asyncio.sleep(0.01)
        await asyncio.wait_for(service.set_serving(False), 10)
        service.end_watches()
        await asyncio.wait_for(watch, 10)

    asyncio.run(scenario())


@pytest.mark.parametrize("open_door", [True, False])
def test_two_credentials_are_refused(tmp_path: Path, open_door: bool) -> None:
    async def scenario(at: House) -> None:
        twice = (("authorization", "Bearer a"), ("authorization", "Bearer b"))
        told = await refusal(at.stub.CallPrompt(call(), metadata=twice))
        assert (told.code, told.info.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "ambiguous_request")

    run(Plan(tmp_path, callers=OpenCallers() if open_door else Nobody()), scenario)


class Nobody:
    """Knows no caller."""

    async def authenticate(self, authorization: str | None) -> Caller:
        raise Unauthorized


def test_a_compressed_message_is_bounded_after_it_is_decompressed(tmp_path: Path) -> None:
    async def scenario(at: House) -> None:
        bomb = call(variables={"name": " " * 100 * MAX_MESSAGE_BYTES})
        gzip = grpc.Compression.Gzip
        assert await code_of(at.stub.CallPrompt(bomb, compression=gzip)) is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert (await at.stub.CallPrompt(call(), compression=gzip)).text

    run(Plan(tmp_path), scenario)


def test_connections_are_bounded_and_those_that_say_nothing_are_closed(tmp_path: Path) -> None:
    async def scenario(at: House) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", at.port)
        async with grpc.aio.insecure_channel(f"127.0.0.1:{at.port}") as refused:
            answer: Any = LlmGatewayStub(refused).CallPrompt(call(), timeout=5)
            assert await code_of(answer) is grpc.StatusCode.UNAVAILABLE
        await asyncio.wait_for(reader.read(), 10)  # to its end: the server closes
        writer.close()
        assert (await at.stub.CallPrompt(call(), wait_for_ready=True)).text

    run(Plan(tmp_path, options={"max_connections": 1, "header_timeout_s": 1}), scenario)
