"""Which URLs can be a provider's."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_gateway.bootstrap.settings import Settings
from llm_gateway.errors import ConfigurationError
from llm_gateway.models.catalogue import ModelCatalogue
from llm_gateway.models.endpoint_url import checked_url, sends_in_clear
from llm_gateway.models.overlay import overlaid


@pytest.mark.parametrize(
    ("url", "read"),
    [
        ("https://api.openai.com/v1", "https://api.openai.com/v1"),
        ("https://api.openai.com/v1/", "https://api.openai.com/v1"),
        ("http://127.0.0.1:11434/v1", "http://127.0.0.1:11434/v1"),
        ("http://[::1]:8000", "http://[::1]:8000"),
        ("https://my_host.internal:8443/openai/deployments/models-x", "https://my_host.internal:8443/openai/deployments/models-x"),
    ],
)  # fmt: skip
def test_what_can_be_asked_is_taken(url: str, read: str) -> None:
    assert checked_url(url) == read


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("api.openai.com/v1", "must begin with https://"),
        ("localhost:11434/v1", "must begin with https://"),
        ("https:api.openai.com", "must begin with https://"),
        ("ftp://host/v1", "must begin with https://"),
        ('"https://api.openai.com/v1"', "must begin with https://"),
        ("https://api.openai.com/v1/chat/completions", "must end before /chat/completions"),
        ("https://api.openai.com/v1/chat/completions/", "must end before /chat/completions"),
        ("https://api.openai.com/v1/models", "must end before /models"),
        ("https://api.openai.com/ v1", "space"),
        ("https://api.openai.com/\nv1", "line end"),
        ("https://host/v1?api-version=1", r"'\?' or '#'"),
        ("https://host/v1#x", r"'\?' or '#'"),
        ("https://ada:pa55@host/v1", "user name or password"),
        ("https://höst/v1", "ASCII"),
        ("https://host:99999/v1", "a port from 1 to 65535"),
        ("https://host:0/v1", "a port from 1 to 65535"),
        ("https://host:x/v1", "a port from 1 to 65535"),
        ("https:///v1", "a host"),
        ("https://[::1/v1", "a host"),
        ("https://ho$t/v1", "a host"),
        ("https://https://host/v1", "a host"),
        ("https://host:/v1", "a host"),
        ("https://host..example/v1", "a host"),
        (f"https://{'a' * 64}.example/v1", "a host"),
        (f"https://{'a.' * 127}example/v1", "a host"),
        ("https://999.1.1.1/v1", "a host"),
        ("https://0/v1", "a host"),
        ("https://[v1.a]/v1", "a host"),
        ("https://host/v1//x", "'//'"),
        ("https://host/v1\\x", "a backslash"),
        ("https://host/%zz", "character that no path"),
        ("https://host/v1/Chat/Completions", "must end before /chat/completions"),
        ("https://host/v1/chat", "must end before /chat"),
    ],
)
def test_what_cannot_is_told_without_being_repeated(url: str, told: str) -> None:
    with pytest.raises(ConfigurationError, match=f"LLM_GATEWAY_OPENAI_BASE_URL .*{told}") as caught:
        Settings.from_env({"LLM_GATEWAY_OPENAI_BASE_URL": url})
    assert "pa55" not in str(caught.value)


def test_a_provider_of_ones_own_is_checked_in_the_same_way() -> None:
    text = '{"providers": {"x": {"base_url": "https://x/v1/chat/completions"}}}'
    with pytest.raises(
        ConfigurationError, match=r"'providers\.x\.base_url' must end before /chat/completions"
    ):
        overlaid(ModelCatalogue.packaged(), text)


@given(st.text() | st.text("htps:/[]@?#%.12 \\").map(lambda text: f"https://{text}"))
def test_any_text_is_taken_or_refused(text: str) -> None:
    try:
        taken = checked_url(text)
    except ValueError:
        return
    assert taken.startswith(("https://", "http://"))
    assert not {" ", "?", "#", "@"} & set(taken.partition("//")[2].partition("/")[0])


@pytest.mark.parametrize(
    ("url", "clear"),
    [
        ("https://host/v1", False),
        ("http://localhost/v1", False),
        ("http://127.0.0.2:9/v1", False),
        ("http://[::1]/v1", False),
        ("http://host/v1", True),
        ("http://10.0.0.1/v1", True),
    ],
)
def test_what_leaves_the_machine_without_tls_is_known(url: str, clear: bool) -> None:
    assert sends_in_clear(url) is clear
