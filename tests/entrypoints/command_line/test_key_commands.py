"""`llm-gateway keys` on a file of keys."""

from __future__ import annotations

import asyncio
import json
import re
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from llm_gateway.access.caller import Caller, Scopes
from llm_gateway.access.errors import Unauthorized
from llm_gateway.access.keys import KeyCallers
from llm_gateway.adapters.local.keys import FileKeys
from llm_gateway.adapters.local.pepper import FilePepper
from llm_gateway.entrypoints.command_line.app import create_app
from llm_gateway.errors import ConfigurationError, InvalidParameter


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


def keys(file: Path, *arguments: str) -> Result:
    return CliRunner().invoke(create_app(), ["--key-file", str(file), "keys", *arguments])


def caller(file: Path, key: str) -> Caller:
    pepper = FilePepper(file.with_name("keys.json.pepper"))
    known = KeyCallers(FileKeys(file), pepper, now=lambda: datetime.now(UTC), clock=time.monotonic)
    return asyncio.run(known.authenticate(f"Bearer {key}"))


def test_a_new_key_alone_is_on_standard_output_and_opens(file: Path) -> None:
    done = keys(
        file, "create", "shop", "--prompt", "support/", "--prompt", "a.md", "--model", "openai/*",
        "--method", "CallPrompt", "--all-usage", "--calls-per-minute", "60", "--expires-in", "90d",
    )  # fmt: skip
    assert done.exit_code == 0
    key = done.stdout.strip()
    assert re.fullmatch(r"lgw_[0-9a-f]{12}_[0-9a-f]{64}", key)
    assert "shown this once" in done.stderr
    scopes = Scopes(("CallPrompt",), ("support/", "a.md"), ("openai/*",), True, 60)
    assert caller(file, key) == Caller("shop", key.split("_")[1], scopes)


def test_files_of_keys_are_for_their_owner_only(file: Path) -> None:
    keys(file, "create", "shop")
    for path in (file, file.with_name("keys.json.pepper")):
        assert path.stat().st_mode & 0o077 == 0


def test_the_list_tells_what_each_key_allows_and_nothing_that_opens(file: Path) -> None:
    one = keys(file, "create", "shop", "--prompt", "support/").stdout.strip()
    two = keys(file, "create", "billing").stdout.strip()
    keys(file, "revoke", two)
    shown = keys(file, "list").stdout
    assert re.search(r"shop\s+valid\s+support/…", shown)
    assert re.search(r"billing\s+revoked\s+everything of its own", shown)
    listed = json.loads(keys(file, "list", "--json").stdout)
    assert [(entry["service"], entry["state"]) for entry in listed] == [
        ("shop", "valid"),
        ("billing", "revoked"),
    ]
    for secret in (one, two):
        assert secret.rpartition("_")[2] not in shown + json.dumps(listed)
    assert "digest" not in listed[0]


def test_a_key_of_an_earlier_version_keeps_its_meaning_and_is_marked(file: Path) -> None:
    key = keys(file, "create", "shop", "--prompt", "support/").stdout.strip()
    keys(file, "create", "fine", "--prompt", "support/", "--prompt", "a.md")
    for bound, shown in (("support", "support… (WIDE: whatever begins so)"), ("", "every prompt (WIDE")):
        stored = json.loads(file.read_text())
        record = stored["keys"][key.split("_")[1]]
        record["scopes"] = json.dumps({**json.loads(record["scopes"]), "prompts": [bound]})
        file.write_text(json.dumps(stored))
        assert caller(file, key).reach.holds("support2/secret.md")
        wide = CliRunner(env={"COLUMNS": "200"}).invoke(
            create_app(), ["--key-file", str(file), "keys", "list"]
        )
        assert shown in wide.stdout
        listed = json.loads(keys(file, "list", "--json").stdout)
        assert [entry["wide"] for entry in listed] == [True, False]


def test_a_rotated_key_is_named_by_its_id_or_by_itself(file: Path) -> None:
    old = keys(file, "create", "shop", "--model", "openai/*").stdout.strip()
    by_key = keys(file, "rotate", old, "--overlap", "1h").stdout.strip()
    by_id = keys(file, "rotate", old.split("_")[1]).stdout.strip()
    for key in (old, by_key, by_id):
        assert caller(file, key).scopes == Scopes(models=("openai/*",))
    [first, *_] = json.loads(keys(file, "list", "--json").stdout)
    assert first["state"].startswith("until ")


def test_a_revoked_key_opens_nothing_and_is_not_rotated(file: Path) -> None:
    key = keys(file, "create", "shop").stdout.strip()
    assert keys(file, "revoke", key).exit_code == 0
    with pytest.raises(Unauthorized):
        caller(file, key)
    done = keys(file, "rotate", key)
    assert (done.exit_code, "has ended" in done.stderr) == (1, True)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["create", "shop", "--method", "Everything"], "There is no method Everything"),
        (["create", "shop", "--expires-in", "soon"], "'soon' is no duration"),
        (["create", "shop", "--expires-in", "0d"], "'0d' is no duration"),
        (["create", "shop", "--prompt", ""], "--prompt is empty; is a variable unset?"),
        (["create", "shop", "--model", ""], "--model is empty; is a variable unset?"),
        (["create", "shop", "--method", ""], "There is no method "),
        (["create", "shop", "--method", "CalPrompt"], "Did you mean 'CallPrompt'?"),
        (["create", "shop", "--prompt", "support"], "for example support/ or support.prompt"),
        (["create", "shop", "--prompt", "*"], "leave --prompt out to allow every prompt"),
        (["create", "shop", "--prompt", "/"], "'--prompt' is empty"),
        (["create", "shop", "--prompt", "/support/"], "'--prompt' is absolute"),
        (["create", "shop", "--prompt", "a/../b/"], "'..' part"),
        (["create", "shop", "--prompt", "a//"], "holds an empty"),
        (["create", "shop", "--model", "*"], "must be provider/name"),
        (["create", "shop", "--model", "*/*"], "allows every model"),
        (["create", "shop", "--model", "**/**"], "allows every model"),
        (["create", "shop", "--model", "openai/gpt-?o"], "no '?' and no '['"),
        (["create", "shop", "--model", "[a-z]*/*"], "no '?' and no '['"),
        (["create", "sh\x07p"], "1 to 64 printable characters"),
        (["create", "x" * 65], "1 to 64 printable characters"),
    ],
)
def test_a_bad_wish_is_refused_with_what_would_be_right(file: Path, arguments: list[str], said: str) -> None:
    done = keys(file, *arguments)
    assert isinstance(done.exception, InvalidParameter)
    assert said in done.exception.message
    assert not file.exists()


def test_an_unknown_key_is_not_revoked(file: Path) -> None:
    done = keys(file, "revoke", "0f1e2d3c4b5a")
    assert (done.exit_code, "no such key" in done.stderr) == (1, True)


def test_somebody_has_to_say_whose_keys() -> None:
    done = CliRunner().invoke(create_app(), ["keys", "list"])
    assert isinstance(done.exception, ConfigurationError)
    assert "--stack NAME, --key-file FILE" in done.exception.message
