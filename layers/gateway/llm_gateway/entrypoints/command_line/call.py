"""`llm-gateway call`: CallPrompt by gRPC, of a gateway that runs as a process of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from llm_gateway.entrypoints.command_line.output import fail, say, show_json
from llm_gateway.entrypoints.command_line.prompt_folder import read_variables
from llm_gateway.entrypoints.command_line.prompts import AsJson

_LONGEST_S = 120.0


def call(
    prompt: Annotated[str, typer.Argument(help="Path of the prompt.")],
    var: Annotated[list[str] | None, typer.Option(help="name=value; dotted names, JSON values.")] = None,
    variables: Annotated[Path | None, typer.Option("--vars", help="A JSON file of variables.")] = None,
    address: Annotated[str, typer.Option(help="Host and port of gRPC.")] = "localhost:50051",
    key: Annotated[str | None, typer.Option(help="A gateway key.")] = None,
    certificate: Annotated[Path | None, typer.Option(help="TLS, trusting this PEM file.")] = None,
    as_json: AsJson = False,
) -> None:
    """Call a prompt: `llm-gateway call translate.txt --var text=Hallo`."""
    import grpc
    from google.protobuf.json_format import MessageToDict

    from llm_gateway.entrypoints.grpc_api.generated import llm_gateway_pb2, llm_gateway_pb2_grpc

    request = llm_gateway_pb2.CallPromptRequest(prompt=prompt)
    request.variables.update(read_variables(var or [], variables))
    metadata = () if key is None else (("authorization", f"Bearer {key}"),)
    if certificate is None:
        channel = grpc.insecure_channel(address)
    else:
        channel = grpc.secure_channel(address, grpc.ssl_channel_credentials(certificate.read_bytes()))
    with channel:
        try:
            stub = llm_gateway_pb2_grpc.LlmGatewayStub(channel)
            answer = stub.CallPrompt(request, timeout=_LONGEST_S, metadata=metadata)
        except grpc.RpcError as error:
            raise fail(f"{error.code().name}: {error.details()}") from None
    if as_json:
        show_json(MessageToDict(answer, preserving_proto_field_name=True))
    else:
        say(answer.text)
