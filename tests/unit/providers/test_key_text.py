"""A provider's key is read as it was plainly meant, or refused with a sentence that repeats none of it."""

from __future__ import annotations

import asyncio
import codecs
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_gateway.errors import ConfigurationError
from llm_gateway.providers.key_text import KeyFault, decoded, key_in
from llm_gateway.providers.keys import ProviderKey, as_given, in_file

KEY = "sk-proj-Ab9_x-7"


@pytest.mark.parametrize(
    "data",
    [
        f"{KEY}".encode(),
        f"{KEY}\r\n".encode(),
        f"\n\n  {KEY}\t\n\n".encode(),
        codecs.BOM_UTF8 + f"{KEY}\r\n".encode(),
        f"{KEY}\r\n".encode("utf-16"),
        codecs.BOM_UTF16_BE + f"{KEY}".encode("utf-16-be"),
        f'"{KEY}"\n'.encode(),
        f"' {KEY} '".encode(),
        codecs.BOM_UTF8 + f'{{"openai": "{KEY}"}}\r\n'.encode(),
        f'{{"openai": "{KEY}\\n", "other": 7}}'.encode("utf-16"),
    ],
)
def test_what_is_plainly_meant_is_the_key(data: bytes) -> None:
    assert key_in(decoded(data), "openai") == KEY


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (f"{KEY}\n\n# prod key\n", "more than one line"),
        (f"{KEY}\r{KEY}", "more than one line"),
        ("sk\N{EN DASH}test", "a character that no key has"),
        (f"“{KEY}”", "a character that no key has"),
        (f"{KEY}\N{NO-BREAK SPACE}x", "a character that no key has"),
        (f"{KEY}\udcff", "a character that no key has"),
        (f"export OPENAI_API_KEY={KEY}", "a variable's name"),
        (f"OPENAI_API_KEY={KEY}", "a variable's name"),
        (f"api_key: {KEY}", "a variable's name"),
        (f"Bearer {KEY}", "'Bearer'"),
        (f"Authorization: Bearer {KEY}", "'Bearer'"),
        (f"{KEY} {KEY}", "a space"),
        (f"{KEY}\0", "a control character"),
        (f"{KEY}\x7f", "a control character"),
        (f"'{KEY}", "a quotation mark"),
        ("<your key>", "the placeholder"),
        ("sk-...", "the placeholder"),
        ("sk-…", "the placeholder"),
        ("sk-xxxxxxxxxxxx", "the placeholder"),
        ("your-api-key-here", "the placeholder"),
        ("${OPENAI_API_KEY}", "the placeholder"),
        ("{{ openai_key }}", "the placeholder"),
        ("changeme", "the placeholder"),
        ("your-openai-api-key", "the placeholder"),
        ("insert_me_", "the placeholder"),
        ("sk-xxx", "the placeholder"),
        ("$OPENAI_API_KEY", "the placeholder"),
        ("%OPENAI_API_KEY%", "the placeholder"),
        (f"{KEY},{KEY}", "one key only"),
        (f"{KEY};", "one key only"),
        ("k" * 5_000, "longer than"),
        ('{"openai": ', "no valid JSON object"),
        ('{"openai": ["x"]}', "no text"),
        (f'{{"openai": "{KEY}\\n{KEY}"}}', "more than one line"),
    ],
)
def test_what_cannot_be_a_key_is_told_in_words_of_our_own(text: str, told: str) -> None:
    with pytest.raises(KeyFault, match=told) as caught:
        key_in(text, "openai")
    assert KEY not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("text", ["", " \n", '""', "{}", '{"openai": null}', '{"other": "x"}'])
def test_no_key_is_no_fault_but_empty(text: str) -> None:
    assert key_in(text, "openai") == ""


def test_plain_text_is_the_key_of_openai_alone() -> None:
    assert key_in(KEY, "azure") == ""
    assert key_in('{"azure": "a"}', "azure") == "a"


def test_bytes_that_are_no_text_are_refused() -> None:
    with pytest.raises(KeyFault, match="UTF-8"):
        decoded(b"sk-\xff\xfe")


@given(st.text())
def test_whatever_is_taken_for_a_key_can_be_sent_in_a_header(text: str) -> None:
    try:
        key = key_in(text, "openai")
    except KeyFault:
        return
    assert key.isascii()
    assert key == "" or (key.isprintable() and " " not in key)


def refusal(read_from: Path | str, provider: str = "openai") -> ConfigurationError:
    read = in_file(read_from) if isinstance(read_from, Path) else as_given(read_from)
    with pytest.raises(ConfigurationError) as caught:
        asyncio.run(ProviderKey(read, provider)())
    return caught.value


def test_a_call_ends_with_a_configuration_error_whose_sentence_is_logged(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(f"{KEY}\n{KEY}\n")
    error = refusal(tmp_path / "key")
    assert (
        error.message == "The key of provider 'openai' holds more than one line; leave the key alone in it."
    )
    assert error.details == {"reason": error.message}
    assert "is empty" in refusal("").message


def test_a_file_of_keys_that_cannot_be_read_is_told_of(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "large").write_bytes(b"k" * 100_000)
    for path in (tmp_path, tmp_path / "pipe", tmp_path / "missing", tmp_path / "large"):
        assert refusal(path).details["reason"]
