"""Between protobuf messages and the models of the JSON API.

Both have the same names, so one walk does for all of them; a test compares them field by field.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, TypeVar

from google.protobuf.descriptor import EnumDescriptor, FieldDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.json_format import ParseDict
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import Struct, Value
from google.protobuf.timestamp_pb2 import Timestamp
from pydantic import BaseModel

from llm_gateway.entrypoints.grpc_api.generated.llm_gateway_pb2 import LabelShares
from llm_gateway.errors import InvalidParameter
from llm_gateway.formats import to_decimal_text
from llm_gateway.json_schema.value_bounds import MAX_VALUES
from llm_gateway.json_schema.values import Json

M = TypeVar("M", bound=Message)

JSON_NAMES: Mapping[str, str] = {"timeout": "timeout_s"}
"""Fields whose name in JSON tells the unit that their protobuf type has anyway."""

_UNSPECIFIED = "UNSPECIFIED"
_JSON = ("google.protobuf.Struct", "google.protobuf.Value")
_MOST_INT = 2**63 - 1
_EXACT = 2**53  # up to here a double holds every whole number
_LARGEST = int(sys.float_info.max)
_LONGEST_PLACE = 200
_DEEPEST = 30  # a level of JSON is up to three of protobuf, whose readers stop at a hundred


def fields_of(message: Message, within: str = "") -> dict[str, Any]:
    """What a request says, by the names of the JSON API; what is not set is not there.

    Args:
        message: The request, or a part of it.
        within: Place of that part, dotted.

    Raises:
        InvalidParameter: A value that JSON does not have.
    """
    fields: dict[str, Any] = {}
    for field, value in message.ListFields():
        name = JSON_NAMES.get(field.name, field.name)
        place = f"{within}.{name}" if within else name
        if _is_map(field):
            fields[name] = dict(value)
        elif field.is_repeated:
            fields[name] = [_read(field, item, place) for item in value]
        else:
            fields[name] = _read(field, value, place)
    return fields


def message_of(kind: type[M], answer: BaseModel) -> M:
    """An answer as a message; what is None is left unset."""
    message = kind()
    _fill(message, answer.model_dump(by_alias=True))
    return message


def word_of(enum: EnumDescriptor, number: int) -> str:
    """The JSON API's word for a value of an enum; a number that is none is left to validation to refuse."""
    known = enum.values_by_number.get(number)
    return str(number) if known is None else known.name.removeprefix(_prefix(enum)).lower()


def _read(field: FieldDescriptor, value: Any, place: str) -> Any:
    if field.enum_type is not None:
        return word_of(field.enum_type, value)
    match value:
        case Struct():
            return _Reader().object(value, place)
        case Timestamp():
            return _moment(value, place)
        case Duration():
            return value.ToNanoseconds() / 1e9
        case Message():
            return fields_of(value, place)
    return value


def _moment(value: Timestamp, place: str) -> datetime:
    try:
        return value.ToDatetime(UTC)
    except (ValueError, OverflowError):
        raise InvalidParameter(f"'{place}' must be a time of the years 1 to 9999.", param=place) from None


class _Reader:
    """Reads one Struct, and so many values of it and no more."""

    def __init__(self) -> None:
        self._left = MAX_VALUES

    def object(self, struct: Struct, place: str) -> dict[str, Json]:
        return {name: self._json(value, _inside(place, name)) for name, value in struct.fields.items()}

    def _json(self, value: Value, place: str) -> Json:
        self._left -= 1
        if self._left < 0:
            raise _too_many(place)
        match value.WhichOneof("kind"):
            case "null_value":
                return None
            case "number_value":
                return _number(value.number_value, place)
            case "string_value":
                return value.string_value
            case "bool_value":
                return value.bool_value
            case "struct_value":
                return self.object(value.struct_value, place)
            case "list_value":
                return [self._json(item, _inside(place, n)) for n, item in enumerate(value.list_value.values)]
        raise _bad(place, "must have a value; null is one of its own")


def _inside(place: str, step: str | int) -> str:
    """The place one level further in, as long as a message shows; a name may be as long as the request."""
    return f"{place}.{step}"[:_LONGEST_PLACE]


def _too_many(place: str) -> InvalidParameter:
    field = "variables" if place.startswith("variables") else "output.schema"
    return InvalidParameter(f"'{field}' holds more than {MAX_VALUES:,} values.", param=field)


def _number(value: float, place: str) -> int | float:
    """Protobuf knows doubles alone; a prompt that is given 3 shall say 3, not 3.0."""
    if not math.isfinite(value):
        raise _bad(place, "must be a finite number")
    return int(value) if value.is_integer() and abs(value) <= _EXACT else value


def _bad(place: str, rule: str) -> InvalidParameter:
    # Names in a schema are the caller's own text, as those of variables, which logs know to leave out.
    param = place if place.startswith("variables.") else "output.schema"
    return InvalidParameter(f"'{place[:_LONGEST_PLACE]}' {rule}.", param=param)


def _fill(message: Message, fields: Mapping[str, Any]) -> None:
    for name, value in fields.items():
        if value is not None:
            field: Any = message.DESCRIPTOR.fields_by_name[name]
            _set(message, field, value)


def _set(message: Message, field: Any, value: Any) -> None:
    if _is_map(field):
        of_messages = field.message_type.fields_by_name["value"].message_type is not None
        _set_map(getattr(message, field.name), of_messages, value)
    elif field.is_repeated:
        _extend(getattr(message, field.name), field, value)
    elif field.message_type is None:
        if not (isinstance(value, int) and value > _MOST_INT):  # nonsense of a vendor is as good as unknown
            setattr(message, field.name, _scalar(field, value))
    elif field.message_type.full_name not in _JSON or _fits(value):
        _put(getattr(message, field.name), value)


def _set_map(target: Any, of_messages: bool, items: Mapping[str, Any]) -> None:
    for key, value in items.items():
        if not of_messages:
            target[key] = value
        else:
            _put(target[key], value)


def _extend(target: Any, field: FieldDescriptor, items: list[Any]) -> None:
    for item in items:
        if field.message_type is None:
            target.append(_scalar(field, item))
        else:
            _put(target.add(), item)


def _put(target: Message, value: Any) -> None:
    target.SetInParent()  # an empty message is not an absent one
    match target:
        case Timestamp():
            target.FromDatetime(value)
        case Struct() | Value():
            ParseDict(value, target)
        case LabelShares():
            _fill(target, {"shares": value})
        case _:
            _fill(target, value)


def _scalar(field: FieldDescriptor, value: Any) -> Any:
    if field.enum_type is not None:
        return field.enum_type.values_by_name[_prefix(field.enum_type) + value.upper()].number
    return to_decimal_text(value) if isinstance(value, Decimal) else value


def _prefix(enum: EnumDescriptor) -> str:
    """What the names of an enum's values begin with."""
    return enum.values_by_number[0].name.removesuffix(_UNSPECIFIED)


def _is_map(field: FieldDescriptor) -> bool:
    return field.message_type is not None and field.message_type.GetOptions().map_entry


def _fits(value: Json, levels: int = _DEEPEST) -> bool:
    """True if clients can read it as a protobuf Value: not too deep, no number beyond all doubles."""
    match value:
        case bool() | float() | str() | None:
            return True
        case int():
            return abs(value) <= _LARGEST
        case dict():
            return levels > 0 and all(_fits(item, levels - 1) for item in value.values())
        case _:
            return levels > 0 and all(_fits(item, levels - 1) for item in value)
