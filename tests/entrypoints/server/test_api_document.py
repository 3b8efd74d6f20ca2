"""docs/openapi.json against the gateway as one process, which is asked more than the deployed one."""

from __future__ import annotations

from pathlib import Path

from tests.api_document import hold_to_its_document
from tests.entrypoints.server.serving import TEST_MODE, prompts, serving


def test_the_process_keeps_the_documents_word_whatever_it_is_sent(tmp_path: Path) -> None:
    folder = prompts(tmp_path / "prompts")
    (folder / "support").mkdir()
    (folder / "support" / "reply.prompt").write_text("Reply to {{ ticket | default('nothing') }}.")
    with serving(tmp_path, TEST_MODE) as process:
        hold_to_its_document(process.url, "none", tmp_path, examples=150)
        assert [line for line in process.lines() if line.get("message") == "unexpected error"] == []
