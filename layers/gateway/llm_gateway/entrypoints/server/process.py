"""The process, from its start to its end: build, listen, announce, wait for a signal, drain, close."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import grpc

from llm_gateway import __version__
from llm_gateway.adapters.local.prompt_watcher import keep_indexed
from llm_gateway.bootstrap.local import LocalParts
from llm_gateway.bootstrap.settings import Settings
from llm_gateway.entrypoints.grpc_api.server import GrpcOptions, GrpcServer, GrpcServices
from llm_gateway.entrypoints.server.application import application
from llm_gateway.entrypoints.server.http_server import HttpServer
from llm_gateway.entrypoints.server.startup import check, files_open_to_others

_POLL_S = 0.05
_LAST_WORDS_S = 1.0  # for answers that are on their way to the caller
_FORGET_EVERY_S = 3_600.0
_MOST_NAMED = 20
_SHORTEST_LOOK_S, _LONGEST_LOOK_S = 0.1, 1.0
_MORE_RPCS = 100  # to be refused as overloaded, and for health checks
_REMEMBERED = timedelta(days=31)


def serve(settings: Settings) -> None:
    """Serve until a signal comes; a second one ends the process at once.

    Raises:
        ConfigurationError: Something is set up wrongly; nothing was served.
    """
    parts = LocalParts(settings, "serve")
    check(parts)
    try:
        asyncio.run(_live(parts))
    finally:
        parts.usage_file.close()


async def _live(parts: LocalParts) -> None:
    told_to_stop = _signalled()
    await parts.folder_watch.look(first=True)
    await _recall_services(parts)
    _show_gauges(parts)
    http = HttpServer(application(parts), parts.settings, parts.telemetry)
    rpc = _grpc_server(parts)

    async def show_health() -> None:
        await rpc.set_serving(not parts.key_check.refused and not told_to_stop.is_set())

    for file, mode in files_open_to_others(parts):
        parts.telemetry.warn("file open to others", file=str(file), mode=mode)
    http_port, grpc_port = await http.start(), await rpc.start()
    _announce(parts, http_port, grpc_port)
    async with _beside(parts, _follow_prompts(parts), _look_after(parts), parts.key_check.run(show_health)):
        await told_to_stop.wait()
        await show_health()
        await _drain(parts)
    await asyncio.gather(http.stop(_LAST_WORDS_S), rpc.stop(_LAST_WORDS_S))
    await parts.close()
    parts.workers.close()
    parts.telemetry.note("stopped")


async def _recall_services(parts: LocalParts) -> None:
    """Let a restart forget no service, and give no room for a thousand more."""
    now = parts.now()
    for rollup in await parts.rollups.read("day", now - _REMEMBERED, now):
        if rollup.dimensions.calling_service is not None:
            parts.record_names.services.folded(rollup.dimensions.calling_service)


def _signalled() -> asyncio.Event:
    """Set by the first signal to stop; what a second one does is the system's default."""
    loop, told = asyncio.get_running_loop(), asyncio.Event()
    signals = (signal.SIGTERM, signal.SIGINT)

    def stop() -> None:
        told.set()
        for number in signals:
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_DFL)

    for number in signals:
        loop.add_signal_handler(number, stop)
    return told


def _grpc_server(parts: LocalParts) -> GrpcServer:
    settings = parts.settings
    services = GrpcServices(
        calls=parts.guarded_calls,
        prompt_index=parts.prompt_index,
        rollups=parts.rollups,
        observer=parts.telemetry,
        callers=parts.callers,
        limiter=parts.call_limit,
        workers=parts.workers,
    )
    options = GrpcOptions(
        host=settings.host,
        port=settings.grpc_port,
        max_message_bytes=settings.max_body_bytes,
        max_connections=settings.max_connections,
        max_calls=2 * settings.max_concurrent_calls + _MORE_RPCS,
        header_timeout_s=settings.header_timeout_s,
        body_timeout_s=settings.body_timeout_s,
        reflection=settings.grpc_reflection,
        credentials=_credentials(settings),
    )
    return GrpcServer(services, options)


def _credentials(settings: Settings) -> grpc.ServerCredentials | None:
    if settings.tls_certificate_file is None or settings.tls_key_file is None:
        return None
    key, chain = (Path(file).read_bytes() for file in (settings.tls_key_file, settings.tls_certificate_file))
    return grpc.ssl_server_credentials([(key, chain)])


def _show_gauges(parts: LocalParts) -> None:
    metrics, index = parts.metrics, parts.folder_index
    metrics.gauge(
        "prompt_folder_available",
        "1, or 0 while the folder of the prompts cannot be used and the last good ones are served.",
        lambda: parts.folder_watch.available,
    )
    metrics.gauge("calls_in_flight", "Calls under way.", lambda: parts.call_limit.taken)
    metrics.gauge("prompts", "Prompts that are served as they stand.", lambda: len(index.paths("ok")))
    metrics.gauge(
        "prompts_broken", "Prompts whose newest text does not parse.", lambda: len(index.paths("broken"))
    )


def _announce(parts: LocalParts, http_port: int, grpc_port: int) -> None:
    settings, index = parts.settings, parts.folder_index
    broken = index.paths("broken")
    parts.telemetry.note(
        "serving",
        version=__version__,
        host=settings.host,
        http_port=http_port,
        grpc_port=grpc_port,
        tls=settings.tls_certificate_file is not None,
        access=settings.access,
        test_mode=settings.test_mode,
        providers=sorted({"openai", *parts.model_catalogue.endpoints}),
        prompts=len(index.paths("ok")) + len(broken),
        prompts_broken=len(broken),
        broken=broken[:_MOST_NAMED],
        usage_file=str(parts.usage_path),
    )
    for provider in () if settings.test_mode else parts.providers_in_clear:
        parts.telemetry.warn(
            "provider is asked without TLS: its key and the prompts can be read", provider=provider
        )


@asynccontextmanager
async def _beside(parts: LocalParts, *work: Coroutine[object, object, None]) -> AsyncIterator[None]:
    """Run `work` while inside; if a part of it fails, that is told and calls are answered on."""

    async def told(part: Coroutine[object, object, None]) -> None:
        try:
            await part
        except Exception as error:
            parts.telemetry.crashed(error, None)

    tasks = [asyncio.create_task(told(part)) for part in work]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _follow_prompts(parts: LocalParts) -> None:
    """Look at the folder twice in the time that the prompts at hand are trusted, at least every second."""
    settings = parts.settings
    folder = Path(settings.required("prompt_folder"))
    every_s = min(max(settings.prompt_cache_ttl_s / 2, _SHORTEST_LOOK_S), _LONGEST_LOOK_S)
    await keep_indexed(
        folder, parts.indexer, asyncio.Event(), parts.telemetry, every_s=every_s, watch=parts.folder_watch
    )


async def _look_after(parts: LocalParts) -> None:
    """Forget what is too old."""
    while True:
        try:
            await _forget(parts)
        except Exception as error:  # the next turn may do better
            parts.telemetry.crashed(error, None)
        await asyncio.sleep(_FORGET_EVERY_S)


async def _forget(parts: LocalParts) -> None:
    now = parts.now()
    await parts.usage.forget(now - timedelta(days=parts.settings.usage_retention_days))
    await parts.outcomes.forget(now)


async def _drain(parts: LocalParts) -> None:
    """Take no more calls, and let those under way come to their end."""
    limit = parts.call_limit
    limit.close()
    parts.telemetry.note("stopping", calls=limit.taken)
    try:
        async with asyncio.timeout(parts.settings.shutdown_grace_s):
            while limit.taken:
                await asyncio.sleep(_POLL_S)
    except TimeoutError:
        parts.telemetry.warn("calls cut off", calls=limit.taken)
