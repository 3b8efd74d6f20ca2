"""What OpenAI's SDK would read from the environment reaches no vendor, and OpenAI's own reaches it alone."""

from __future__ import annotations

import asyncio
import json
import logging

import pytest

from llm_gateway.bootstrap.local import LocalParts
from llm_gateway.bootstrap.settings import Settings
from llm_gateway.models.messages import Message
from llm_gateway.models.options import ModelOptions
from tests import upstream as loopback

AMBIENT = {
    "OPENAI_API_KEY": "sk-ambient",
    "OPENAI_ADMIN_KEY": "sk-ambient-admin",
    "OPENAI_ORG_ID": "org-ambient",
    "OPENAI_PROJECT_ID": "proj-ambient",
    "OPENAI_WEBHOOK_SECRET": "ambient",
    "OPENAI_BASE_URL": "http://127.0.0.1:9/ambient",
    "OPENAI_CUSTOM_HEADERS": "X-Ambient: ambient\nAuthorization: Bearer ambient\nOpenAI-Project: ambient",
    "OPENAI_LOG": "debug",
}


def call(provider: str, url: str, settings: dict[str, str], auth: str = "bearer") -> None:
    """Ask a provider once."""
    own = {"providers": {"other": {"base_url": url, "auth": auth}}}
    given = {
        "LLM_GATEWAY_OPENAI_BASE_URL": url,
        "LLM_GATEWAY_MODELS": json.dumps(own),
        "LLM_GATEWAY_OPENAI_API_KEY": '{"openai": "sk-own", "other": "sk-other"}',
        **settings,
    }
    parts = LocalParts(Settings.from_env(given), "test")
    model = parts.model_catalogue.find("openai", "gpt-4o-mini")

    async def asked() -> None:
        asking = parts._real_providers[provider]
        await asking.complete(model, [Message("user", "canary text")], ModelOptions(), 5)
        await parts.close()

    asyncio.run(asked())


@pytest.mark.parametrize(("provider", "auth"), [("openai", "bearer"), ("other", "bearer"), ("other", "none")])
def test_nothing_ambient_is_sent_or_logged(
    provider: str, auth: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name, value in AMBIENT.items():
        monkeypatch.setenv(name, value)
    with loopback.running() as vendor, caplog.at_level(logging.DEBUG):
        call(provider, vendor.url, {}, auth)
        (sent,) = vendor.headers
        key = {"openai": "Bearer sk-own", "other": "Bearer sk-other"}[provider] if auth == "bearer" else None
        assert vendor.keys == [key]
    assert "ambient" not in json.dumps(sent).lower()
    assert not {"openai-organization", "openai-project", "x-ambient"} & sent.keys()
    assert "canary text" not in caplog.text


@pytest.mark.parametrize("prefix", ["", "LLM_GATEWAY_"])
def test_organization_and_project_go_to_openai_alone(prefix: str) -> None:
    account = {f"{prefix}OPENAI_ORG_ID": "org-1", f"{prefix}OPENAI_PROJECT_ID": "proj-1"}
    with loopback.running() as vendor:
        call("openai", vendor.url, account)
        call("other", vendor.url, account)
        to_openai, to_other = vendor.headers
    assert (to_openai["openai-organization"], to_openai["openai-project"]) == ("org-1", "proj-1")
    assert not {"openai-organization", "openai-project"} & to_other.keys()
    assert "org-1" not in json.dumps(to_other)


def test_without_an_address_openai_is_asked_whatever_the_environment_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/ambient")
    parts = LocalParts(Settings.from_env({"LLM_GATEWAY_OPENAI_API_KEY": "sk-own"}), "test")
    assert str(parts._real_providers["openai"]._client.base_url) == "https://api.openai.com/v1/"
    asyncio.run(parts.close())
