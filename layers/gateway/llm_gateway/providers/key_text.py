"""Reading the providers' keys out of a text: as it was plainly meant, or not at all.

A key is sent in a header. What cannot be in one, or was never meant to be, is found here and named in a
sentence that repeats no character of it; a vendor would only refuse it, or the HTTP client fail to send it.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Callable

_OWNER_OF_PLAIN_TEXT = "openai"
_LONGEST = 4_096
_BOMS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
_ASSIGNMENT = re.compile(r"export\s|set\s|[A-Za-z_]*(KEY|TOKEN|SECRET)[A-Za-z_]*\s*[=:]", re.IGNORECASE)
_PREFIX = re.compile(r"(authorization\s*:|bearer\s|basic\s)", re.IGNORECASE)
_PLACEHOLDER = re.compile(
    r"<|>|\.\.\.|\*\*\*|\$[{(]|^\$\w+$|^%\w+%$|\{\{|x{8}|(^|[-_])x{3,}$"
    r"|your[-_ ]?([a-z0-9]{1,32}[-_ ]){0,3}(key|secret|token)|(api|secret)[-_ ]?key[-_ ]?(goes[-_ ]?)?here"
    r"|(change|replace|fill|insert)[-_ ]?(me|this|with)(\b|_)",
    re.IGNORECASE,
)

_FAULTS: tuple[tuple[Callable[[str], object], str], ...] = (
    (lambda key: len(key.splitlines()) > 1, "holds more than one line; leave the key alone in it"),
    (
        lambda key: "…" in key or _PLACEHOLDER.search(key),
        "is the placeholder of an example; put the key in its place",
    ),
    (_ASSIGNMENT.match, "holds a variable's name before the key; leave the key alone in it"),
    (_PREFIX.match, "holds 'Bearer' or a header's name before the key; leave the key alone in it"),
    (
        lambda key: not key.isascii(),
        "holds a character that no key has, such as a long dash or a curly quotation mark; copy it again",
    ),
    (lambda key: any(character.isspace() for character in key), "holds a space"),
    (lambda key: not key.isprintable(), "holds a control character"),
    (lambda key: "," in key or ";" in key, "holds a comma or a semicolon; it can be one key only"),
    (lambda key: '"' in key or "'" in key or "`" in key, "holds a quotation mark"),
    (lambda key: len(key) > _LONGEST, f"is longer than {_LONGEST} characters"),
)


class KeyFault(ValueError):
    """What is wrong with a key, as the end of a sentence that begins with its name."""


def decoded(data: bytes) -> str:
    """The text of a file; a byte order mark says that it is UTF-16, or is dropped.

    Raises:
        KeyFault: It is no text.
    """
    encoding = next((name for mark, name in _BOMS if data.startswith(mark)), "utf-8")
    try:
        return data.decode(encoding)
    except UnicodeDecodeError:
        raise KeyFault("is not UTF-8 text") from None


def key_in(text: str, provider: str) -> str:
    """A provider's key in the text of a secret; empty if it is not there.

    Args:
        text: OpenAI's key as plain text, or a JSON object with the key of each provider by its name.
        provider: The provider.

    Raises:
        KeyFault: What is there cannot be a key; none of its characters is repeated.
    """
    plain = text.removeprefix("\ufeff").strip()
    if plain.startswith("{") and not plain.startswith("{{"):
        return _checked(_of_provider(plain, provider))
    return _checked(plain) if provider == _OWNER_OF_PLAIN_TEXT else ""


def _of_provider(text: str, provider: str) -> str:
    try:
        keys = json.loads(text)
    except (ValueError, RecursionError):
        raise KeyFault("begins with '{' and is no valid JSON object") from None
    key = keys.get(provider)
    if not isinstance(key, str | None):
        raise KeyFault("is no text in the JSON object")
    return (key or "").removeprefix("\ufeff").strip()


def _checked(key: str) -> str:
    key = _unquoted(key)
    for wrong, fault in _FAULTS:
        if wrong(key):
            raise KeyFault(fault)
    return key


def _unquoted(key: str) -> str:
    quoted = len(key) > 1 and key[0] in "\"'`" and key[-1] == key[0]
    return key[1:-1].strip() if quoted else key
