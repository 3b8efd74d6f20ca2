"""The gRPC server: the gateway's service, standard health and reflection, on one port."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import grpc
from grpc_health.v1 import health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from llm_gateway.access.caller import Callers
from llm_gateway.calls.admission import CallLimit
from llm_gateway.calls.idempotency import CallsPrompts
from llm_gateway.entrypoints.grpc_api import health
from llm_gateway.entrypoints.grpc_api.generated import llm_gateway_pb2_grpc
from llm_gateway.entrypoints.grpc_api.interceptors import CallInterceptor
from llm_gateway.entrypoints.grpc_api.servicer import SERVICE, GatewayServicer
from llm_gateway.errors import ConfigurationError
from llm_gateway.prompts.catalogue.catalogue import PromptIndex
from llm_gateway.usage.rollups import RollupStore
from llm_gateway.workers import INLINE, Workers

if TYPE_CHECKING:
    from llm_gateway.entrypoints.http.boundary import RequestObserver

_LAST_WRITES_S = 3.0
_AGES = (
    ("grpc.keepalive_time_ms", 60_000),  # whoever does not answer a ping is gone
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.max_connection_idle_ms", 300_000),
    ("grpc.max_connection_age_ms", 1_800_000),
    ("grpc.max_connection_age_grace_ms", 150_000),  # more than the longest call
)


@dataclass(frozen=True, slots=True)
class GrpcServices:
    """What the methods are answered with.

    Attributes:
        calls: CallPrompt, which checks what the caller may do.
        prompt_index: ListPrompts and GetPromptMetadata.
        rollups: GetUsageStats.
        observer: Logs and metrics.
        callers: Authenticates callers.
        limiter: Places for calls, shared with the other entrances of the process.
        workers: Read and write messages that are large.
    """

    calls: CallsPrompts
    prompt_index: PromptIndex
    rollups: RollupStore
    observer: RequestObserver
    callers: Callers
    limiter: CallLimit
    workers: Workers = INLINE


@dataclass(frozen=True, slots=True)
class GrpcOptions:
    """How it listens.

    Attributes:
        host: Address to bind.
        port: Port to bind; 0 takes a free one.
        max_message_bytes: Largest request, before and after it is decompressed.
        max_connections: Connections that are open at once.
        max_calls: RPCs under way at once, those included whose message is still to come.
        header_timeout_s: Longest that a handshake may take.
        body_timeout_s: Longest that a message may take after its headers.
        reflection: True tells clients what services there are.
        credentials: For TLS; None is plain text.
    """

    host: str
    port: int
    max_message_bytes: int
    max_connections: int = 1_000
    max_calls: int = 600
    header_timeout_s: float = 10.0
    body_timeout_s: float = 30.0
    reflection: bool = True
    credentials: grpc.ServerCredentials | None = None


class GrpcServer:
    """One server, from start to stop, in the running event loop.

    Args:
        services: What the methods are answered with.
        options: How it listens.
    """

    def __init__(self, services: GrpcServices, options: GrpcOptions) -> None:
        self._options = options
        self._health = health.HealthService(SERVICE)
        self._boundary = CallInterceptor(
            SERVICE, services.observer, services.callers, services.limiter, options.body_timeout_s
        )
        self._server = grpc.aio.server(
            interceptors=[self._boundary],
            options=self._channel_options(),
            maximum_concurrent_rpcs=options.max_calls,
        )
        servicer = GatewayServicer(services.calls, services.prompt_index, services.rollups, services.workers)
        llm_gateway_pb2_grpc.add_LlmGatewayServicer_to_server(servicer, self._server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        if options.reflection:
            names = (SERVICE, health.NAME, reflection.SERVICE_NAME)
            reflection.enable_server_reflection(names, self._server)

    async def start(self) -> int:
        """Listen and serve; the port that is bound.

        Raises:
            ConfigurationError: The address cannot be bound.
        """
        port = self._bind()
        await self._server.start()
        await self.set_serving(True)
        return port

    async def set_serving(self, serving: bool) -> None:
        """Tell health checks whether calls are welcome; calls are answered either way."""
        await self._health.set_serving(serving)

    async def stop(self, grace_s: float) -> None:
        """Take no new calls, let those under way end for `grace_s` seconds, then cancel them.

        When it returns, what they cost is written down.
        """
        await self.set_serving(False)
        self._health.end_watches()
        await self._server.stop(grace_s)
        await self._boundary.idle(_LAST_WRITES_S)

    async def wait(self) -> None:
        """Wait until it has stopped."""
        await self._server.wait_for_termination()

    def _bind(self) -> int:
        host = self._options.host
        address = f"[{host}]:{self._options.port}" if ":" in host else f"{host}:{self._options.port}"
        try:
            if self._options.credentials is None:
                return self._server.add_insecure_port(address)
            return self._server.add_secure_port(address, self._options.credentials)
        except RuntimeError as error:
            raise ConfigurationError(f"gRPC cannot listen on {address}; is the port taken?") from error

    def _channel_options(self) -> list[tuple[str, int]]:
        options = self._options
        return [
            ("grpc.max_receive_message_length", options.max_message_bytes),
            ("grpc.max_allowed_incoming_connections", options.max_connections),
            ("grpc.max_concurrent_streams", options.max_calls),
            ("grpc.server_handshake_timeout_ms", round(1000 * options.header_timeout_s)),
            *_AGES,
            ("grpc.so_reuseport", 0),  # a second server on the same port is a mistake, not a helper
        ]
