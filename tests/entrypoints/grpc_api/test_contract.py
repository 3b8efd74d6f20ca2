"""The contract in proto/ and the JSON API describe the same things with the same names, field by field."""

from __future__ import annotations

import types
from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import pytest
from google.protobuf import struct_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from hypothesis import given
from hypothesis import strategies as st
from pydantic import AwareDatetime, BaseModel, JsonValue
from typing_extensions import TypeAliasType

import protobuf
from llm_gateway.access.caller import METHODS
from llm_gateway.api import calls, fields, prompts, usage
from llm_gateway.api.prompts import ListQuery
from llm_gateway.api.usage import UsageQuery
from llm_gateway.entrypoints.grpc_api.generated import llm_gateway_pb2 as pb
from llm_gateway.entrypoints.grpc_api.messages import fields_of, message_of, word_of
from llm_gateway.errors import InvalidParameter
from llm_gateway.json_schema.value_bounds import MAX_VALUES

# Messages and the models they stand for.
PAIRS: dict[str, type[BaseModel] | None] = {
    "CallPromptRequest": calls.CallRequest,
    "CallPromptResponse": calls.CallResponse,
    "LLMParameters": fields.Parameters,
    "Output": calls.Output,
    "PromptVersion": calls.PromptVersion,
    "TokenUsage": calls.Usage,
    "ListPromptsRequest": ListQuery,
    "ListPromptsResponse": prompts.PromptList,
    "PromptSummary": prompts.PromptSummary,
    "GetPromptMetadataResponse": prompts.PromptMetadata,
    "LabelShare": prompts.LabelShare,
    "HistoryItem": prompts.HistoryItem,
    "GetUsageStatsRequest": UsageQuery,
    "GetUsageStatsResponse": usage.UsageStats,
    "UsageBucket": usage.UsageBucket,
    "UsageTotals": usage.UsageTotals,
    "GetPromptMetadataRequest": None,  # over HTTP it is the path of the URL
    "LabelShares": None,  # a list, which is no value of a map in protobuf
}

# Where a field differs, and why. Anything else has to be the same on both sides.
DIFFERENT_NAMES = {
    ("CallPromptRequest", "timeout"): "timeout_s",  # a Duration tells its unit
}
DIFFERENT_PRESENCE = {
    ("CallPromptRequest", "prompt"),  # required; an empty one is refused as a missing one
    ("Output", "format"),  # OUTPUT_FORMAT_UNSPECIFIED
    ("GetUsageStatsRequest", "bucket"),  # BUCKET_WIDTH_UNSPECIFIED
    ("GetUsageStatsRequest", "status"),  # CALL_STATUS_UNSPECIFIED
}
DIFFERENT_TYPES = {
    (
        "GetUsageStatsResponse",
        "group_by",
    ),  # the words that were asked for: text in JSON's answer, an enum here
}
# The methods that only HTTP has.
ONLY_HTTP = {"ListModels"}  # a list for people, and for tools that speak HTTP

REQUESTS = (calls.CallRequest, calls.Output, fields.Parameters, ListQuery, UsageQuery)
MESSAGES: dict[str, Descriptor] = dict(pb.DESCRIPTOR.message_types_by_name)
PAIRED = {name: model for name, model in PAIRS.items() if model is not None}


def each_field() -> Iterator[tuple[str, FieldDescriptor, Any]]:
    for name, model in PAIRED.items():
        by_name = {field.alias or key: field for key, field in model.model_fields.items()}
        for field in MESSAGES[name].fields:
            yield name, field, by_name.get(DIFFERENT_NAMES.get((name, field.name), field.name))


FIELDS = list(each_field())


def test_the_generated_code_is_that_of_the_contract() -> None:
    written = {name: (protobuf.GENERATED / name).read_text() for name in protobuf.current()}
    assert written == protobuf.current()


def test_both_have_the_same_methods() -> None:
    names = {method.name for method in pb.DESCRIPTOR.services_by_name["LlmGateway"].methods}
    assert names | ONLY_HTTP == set(METHODS)


def test_every_message_stands_for_a_model() -> None:
    assert set(PAIRS) == set(MESSAGES)


@pytest.mark.parametrize("name", PAIRED)
def test_a_message_and_its_model_have_the_same_fields(name: str) -> None:
    of_model = {field.alias or key for key, field in PAIRED[name].model_fields.items()}
    of_message = {DIFFERENT_NAMES.get((name, field.name), field.name) for field in MESSAGES[name].fields}
    assert of_message == of_model


@pytest.mark.parametrize(
    ("name", "field", "model_field"), FIELDS, ids=lambda value: getattr(value, "name", None)
)
def test_a_field_has_the_same_type_on_both_sides(name: str, field: FieldDescriptor, model_field: Any) -> None:
    wanted, _ = kind_of(model_field.annotation)
    if (name, field.name) not in DIFFERENT_TYPES:
        assert kind_of_field(field) == shown(wanted)


@pytest.mark.parametrize(
    ("name", "field", "model_field"), FIELDS, ids=lambda value: getattr(value, "name", None)
)
def test_a_field_can_be_unset_where_it_may_be_unknown_or_left_out(
    name: str, field: FieldDescriptor, model_field: Any
) -> None:
    if (name, field.name) in DIFFERENT_PRESENCE or field.is_repeated or field.message_type is not None:
        return  # a message can always be unset
    _, may_be_none = kind_of(model_field.annotation)
    may_be_left_out = PAIRED[name] in REQUESTS and not model_field.is_required()
    assert field.has_presence == (may_be_none or may_be_left_out)


def kind_of(annotation: Any) -> tuple[Any, bool]:
    """The type without `| None` and without rules, and whether it may be None."""
    if isinstance(annotation, TypeAliasType):
        return annotation, False
    if get_origin(annotation) is Annotated:
        return kind_of(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        inner = [part for part in get_args(annotation) if part is not type(None)]
        if len(inner) == 1:
            return kind_of(inner[0])[0], True
        return annotation, False
    return annotation, False


def shown(wanted: Any) -> str:
    """A Python type in words that both sides have."""
    origin, arguments = get_origin(wanted), get_args(wanted)
    if origin is list:
        return f"list of {shown(kind_of(arguments[0])[0])}"
    if origin is dict:
        return "object" if arguments[1] is JsonValue else f"map of {shown(kind_of(arguments[1])[0])}"
    if origin is Literal:
        return "one of " + ", ".join(sorted(arguments))
    if isinstance(wanted, type) and issubclass(wanted, BaseModel):
        return next(name for name, model in PAIRS.items() if model is wanted)
    plain: dict[Any, str] = {
        str: "text",
        Decimal: "text",
        bool: "flag",
        int: "whole",
        float: "number",
        datetime: "moment",
        AwareDatetime: "moment",
    }
    return plain.get(wanted, "json")


def kind_of_field(field: FieldDescriptor) -> str:
    message = field.message_type
    if message is not None and message.GetOptions().map_entry:
        value = kind_of_one(message.fields_by_name["value"])
        return f"map of {'list of LabelShare' if value == 'LabelShares' else value}"
    return f"list of {kind_of_one(field)}" if field.is_repeated else kind_of_one(field)


def kind_of_one(field: Any) -> str:
    if field.enum_type is not None:
        words = {word_of(field.enum_type, number) for number in field.enum_type.values_by_number}
        return "one of " + ", ".join(sorted(words - {"unspecified"}))
    if field.message_type is not None:
        known = {"Struct": "object", "Value": "json", "Timestamp": "moment", "Duration": "number"}
        name: str = field.message_type.name
        return known.get(name, name)
    kinds = FieldDescriptor
    plain: dict[int, str] = {
        kinds.CPPTYPE_STRING: "text",
        kinds.CPPTYPE_BOOL: "flag",
        kinds.CPPTYPE_INT32: "whole",
        kinds.CPPTYPE_INT64: "whole",
        kinds.CPPTYPE_DOUBLE: "number",
    }
    return plain[field.cpp_type]


@pytest.mark.parametrize("enum", pb.DESCRIPTOR.enum_types_by_name.values(), ids=lambda enum: enum.name)
def test_the_zero_of_every_enum_means_nothing(enum: Any) -> None:
    assert word_of(enum, 0) == "unspecified"


NUMBERS = st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.none() | st.booleans() | st.text() | NUMBERS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(st.text(), JSON, max_size=4))
def test_variables_come_through_a_struct_as_they_went_in(variables: dict[str, Any]) -> None:
    request = pb.CallPromptRequest(prompt="p")
    request.variables.SetInParent()
    request.variables.update(variables)
    read = fields_of(pb.CallPromptRequest.FromString(request.SerializeToString()))
    assert read == {"prompt": "p", "variables": variables}


COUNTS = [name for name, field in usage.UsageTotals.model_fields.items() if field.annotation is int]


@given(
    st.fixed_dictionaries({name: st.integers(0, 2**63 - 1) for name in COUNTS}),
    st.decimals(0, 10**12, places=12),
    st.none() | st.floats(0, 1e9),
)
def test_sums_are_told_to_the_last_digit(
    counts: dict[str, int], cost_usd: Decimal, mean_latency_ms: float | None
) -> None:
    totals = usage.UsageTotals(
        **counts, cost_usd=cost_usd, mean_latency_ms=mean_latency_ms, max_latency_ms=None
    )
    told = message_of(pb.UsageTotals, totals)
    assert {name: getattr(told, name) for name in COUNTS} == counts
    assert Decimal(told.cost_usd) == cost_usd
    assert told.HasField("mean_latency_ms") == (mean_latency_ms is not None)
    assert not told.HasField("max_latency_ms")


@pytest.mark.parametrize("field", ["variables", "output.schema"])
def test_a_struct_of_too_many_values_is_refused_as_it_is_read(field: str) -> None:
    request = pb.CallPromptRequest(prompt="a")
    struct = request.variables if field == "variables" else request.output.schema
    struct["x"] = 1
    values = struct.fields["x"].list_value.values
    values.extend([struct_pb2.Value(bool_value=True)] * MAX_VALUES)
    with pytest.raises(InvalidParameter, match="100,000 values") as caught:
        fields_of(request)
    assert caught.value.param == field
