"""docs/openapi.json against the deployed API: what it promises is what comes, whatever is sent."""

from __future__ import annotations

from pathlib import Path

import pytest

from llm_gateway.access.caller import Scopes
from local_aws.session import upload_and_wait
from local_aws.stack import Stack
from tests.api_document import CHECKS, WITH_KEYS, hold_to_its_document

pytestmark = pytest.mark.aws


@pytest.fixture(scope="module")
def gateway(stack: Stack) -> Stack:
    """The stack with the prompt that the document gives as an example."""
    upload_and_wait(stack, "support/reply.prompt", b"Reply to {{ ticket | default('nothing') }}.")
    return stack


def test_the_deployed_api_keeps_its_documents_word_whatever_it_is_sent(
    gateway: Stack, tmp_path: Path
) -> None:
    key = gateway.create_key("documented", Scopes(all_usage=True))
    hold_to_its_document(gateway.api_url, key, tmp_path, examples=15, checks=f"{CHECKS},{WITH_KEYS}")
