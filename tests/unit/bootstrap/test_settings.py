"""The environment, read once and checked."""

from __future__ import annotations

import pytest

from llm_gateway.bootstrap.settings import Settings
from llm_gateway.errors import ConfigurationError


def test_an_empty_environment_gives_the_defaults() -> None:
    assert Settings.from_env({}) == Settings()


def test_values_are_read_in_their_own_types_and_an_empty_one_counts_as_absent() -> None:
    settings = Settings.from_env(
        {
            "LLM_GATEWAY_TEST_MODE": "True",
            "LLM_GATEWAY_DEFAULT_TIMEOUT_S": "12.5",
            "LLM_GATEWAY_RETRY_LIMIT": "0",
            "LLM_GATEWAY_OPENAI_BASE_URL": "",
            "LLM_GATEWAY_LOG_LEVEL": "debug",
            "PATH": "/bin",
        }
    )
    assert settings == Settings(
        test_mode=True, default_timeout_s=12.5, retry_limit=0, openai_base_url=None, log_level="DEBUG"
    )


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("TEST_MODE", "perhaps", "true or false"),
        ("DEFAULT_TIMEOUT_S", "4", "from 5 to 120"),
        ("DEFAULT_TIMEOUT_S", "soon", "from 5 to 120"),
        ("DEFAULT_TIMEOUT_S", "nan", "from 5 to 120"),
        ("RETRY_LIMIT", "4", "from 0 to 3"),
        ("DEFAULT_MODEL", "gpt-4o", "provider/model"),
        ("LOG_LEVEL", "loud", "DEBUG"),
        ("TETS_MODE", "true", "is not a setting"),
        ("TETS_MODE", "true", "perhaps LLM_GATEWAY_TEST_MODE is meant"),
        ("MAX_BODY_BYTES", "1MB", "must be a number from 1024 to 6000000"),
    ],
)
def test_an_unusable_value_is_told_by_name(name: str, value: str, told: str) -> None:
    with pytest.raises(ConfigurationError, match=f"LLM_GATEWAY_{name}.*{told}"):
        Settings.from_env({f"LLM_GATEWAY_{name}": value})


def test_every_problem_is_told_at_once() -> None:
    with pytest.raises(ConfigurationError, match=r"LOG_LEVEL.*RETRY_LIMIT"):
        Settings.from_env({"LLM_GATEWAY_RETRY_LIMIT": "x", "LLM_GATEWAY_LOG_LEVEL": "x"})


def test_a_setting_that_a_process_needs_is_asked_for_by_name() -> None:
    with pytest.raises(ConfigurationError, match="LLM_GATEWAY_PROMPT_TABLE"):
        Settings().required("prompt_table")


@pytest.mark.parametrize("name", ["test_mode", "Test_Mode", "OPENAI_API_\u212aEY", "TEST_MODE\udcff"])
def test_a_setting_has_one_spelling(name: str) -> None:
    with pytest.raises(ConfigurationError, match="is not a setting") as caught:
        Settings.from_env({f"LLM_GATEWAY_{name}": "true"})
    caught.value.message.encode()
