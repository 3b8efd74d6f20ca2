"""What is set up wrongly is told before anything is served: all of it, a sentence for each."""

from __future__ import annotations

import json
import os
import socket
import sqlite3
import stat
import subprocess
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

import pytest

from llm_gateway.bootstrap.local import LocalParts
from llm_gateway.bootstrap.settings import Settings
from llm_gateway.entrypoints.server.startup import check
from llm_gateway.errors import ConfigurationError
from tests.entrypoints.server.serving import COMMAND, OPEN, TEST_MODE, environment, prompts, serving


def problems(folder: Path, variables: Mapping[str, str]) -> list[str]:
    prompts(folder / "prompts")
    parts = LocalParts(Settings.from_env(environment(folder, variables)), "serve")
    try:
        check(parts)
    except ConfigurationError as error:
        told = error.details["problems"]
        assert isinstance(told, list)
        return [str(problem) for problem in told]
    finally:
        if "usage_file" in parts.__dict__:
            parts.usage_file.close()
    return []


REAL = {"LLM_GATEWAY_TEST_MODE": "false", "LLM_GATEWAY_OPENAI_API_KEY": "sk-x"}


def test_nothing_is_said_against_what_is_right(tmp_path: Path) -> None:
    assert problems(tmp_path, TEST_MODE) == []
    assert problems(tmp_path, {**OPEN, "LLM_GATEWAY_OPENAI_API_KEY": "sk-x"}) == []


@pytest.mark.parametrize(
    ("variables", "told"),
    [
        ({"LLM_GATEWAY_PROMPT_FOLDER": ""}, "Set LLM_GATEWAY_PROMPT_FOLDER"),
        ({"LLM_GATEWAY_PROMPT_FOLDER": "/nowhere/at-all"}, "'/nowhere/at-all' is no folder"),
        ({"LLM_GATEWAY_TEST_MODE": "false"}, "Set LLM_GATEWAY_OPENAI_API_KEY or"),
        (
            {"LLM_GATEWAY_TEST_MODE": "false", "LLM_GATEWAY_OPENAI_API_KEY_FILE": "/nowhere/at-all"},
            "cannot be read",
        ),
        (
            {"LLM_GATEWAY_TEST_MODE": "false", "LLM_GATEWAY_OPENAI_API_KEY": '{"other": "x"}'},
            "holds no key for 'openai'",
        ),
        ({"LLM_GATEWAY_ACCESS": ""}, "Set LLM_GATEWAY_KEY_FILE to"),
        ({"LLM_GATEWAY_ACCESS": "iam"}, "is for AWS"),
        (
            {"LLM_GATEWAY_ACCESS": "keys", "LLM_GATEWAY_KEY_FILE": "/nowhere/at-all"},
            "LLM_GATEWAY_KEY_FILE: 'at-all.pepper'",
        ),
        ({"LLM_GATEWAY_ENVIRONMENT": "prod"}, "LLM_GATEWAY_ACCESS=open is only for"),
        ({"LLM_GATEWAY_ENVIRONMENT": "Production"}, "LLM_GATEWAY_ACCESS=open is only for"),
        ({"LLM_GATEWAY_TLS_KEY_FILE": "key.pem"}, "Set both LLM_GATEWAY_TLS_CERTIFICATE_FILE"),
        (
            {
                "LLM_GATEWAY_TLS_KEY_FILE": "/nowhere/at-all",
                "LLM_GATEWAY_TLS_CERTIFICATE_FILE": "/nowhere/at-all",
            },
            "there is no '/nowhere/at-all'",
        ),
        (
            {"LLM_GATEWAY_TLS_KEY_FILE": "/etc/hosts", "LLM_GATEWAY_TLS_CERTIFICATE_FILE": "/etc/hosts"},
            "no certificate",
        ),
        (
            {"LLM_GATEWAY_USAGE_FILE": "/nowhere/at-all/usage.db"},
            "LLM_GATEWAY_USAGE_FILE: '/nowhere/at-all/usage.db'",
        ),
        (
            {"LLM_GATEWAY_USAGE_FILE": "/etc/hosts"},
            "LLM_GATEWAY_USAGE_FILE: '/etc/hosts' cannot be used: file is not a database",
        ),
        ({"LLM_GATEWAY_MODELS": "{"}, "LLM_GATEWAY_MODELS"),
        (
            {"LLM_GATEWAY_MODELS": "{", **REAL},
            "LLM_GATEWAY_MODELS",
        ),
        (
            {"LLM_GATEWAY_MODELS": '{"providers": {"x": {"base_url": "x"}}}', **REAL},
            "'providers.x.base_url' must begin with https://",
        ),
        ({"LLM_GATEWAY_PROMPT_FOLDER": f"/{'x' * 300}"}, "cannot be read: File name too long"),
        (
            {
                "LLM_GATEWAY_TLS_KEY_FILE": f"/{'x' * 300}",
                "LLM_GATEWAY_TLS_CERTIFICATE_FILE": f"/{'x' * 300}",
            },
            "that this process may read",
        ),
        (
            {**REAL, "LLM_GATEWAY_OPENAI_API_KEY": "{}"},
            "LLM_GATEWAY_OPENAI_API_KEY holds no key for 'openai'",
        ),
        ({"LLM_GATEWAY_MODELS_FILE": "/nowhere/at-all"}, "LLM_GATEWAY_MODELS_FILE"),
        ({"LLM_GATEWAY_BUDGETS": "{"}, "LLM_GATEWAY_BUDGETS"),
        ({"LLM_GATEWAY_DEFAULT_MODEL": "openai/gpt-none"}, "LLM_GATEWAY_DEFAULT_MODEL"),
        ({"LLM_GATEWAY_PROMPT_FOLDER": "/etc/hosts"}, "'/etc/hosts' is no folder"),
        (
            {"LLM_GATEWAY_TEST_MODE": "false", "LLM_GATEWAY_OPENAI_API_KEY": "sk-...x"},
            "LLM_GATEWAY_OPENAI_API_KEY is the placeholder",
        ),
        (
            {
                "LLM_GATEWAY_TEST_MODE": "false",
                "LLM_GATEWAY_OPENAI_API_KEY": '{"openai": "sk-x", "azure": "a b"}',
                "LLM_GATEWAY_MODELS": '{"providers": {"azure": {"base_url": "https://azure.example"}}}',
            },
            "LLM_GATEWAY_OPENAI_API_KEY, the key of 'azure': holds a space",
        ),
        ({"LLM_GATEWAY_HTTP_PORT": "9999", "LLM_GATEWAY_GRPC_PORT": "9999"}, "name the same port"),
    ],
)
def test_what_is_missing_or_wrong_is_told_in_one_sentence(
    variables: dict[str, str], told: str, tmp_path: Path
) -> None:
    (problem,) = problems(tmp_path, {**TEST_MODE, **variables})
    assert told in problem
    assert problem.endswith(".")


def test_a_usage_file_is_a_file_whatever_sqlite_makes_of_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert problems(tmp_path, {**TEST_MODE, "LLM_GATEWAY_USAGE_FILE": ":memory:"}) == []
    assert (tmp_path / ":memory:").is_file()


def mode_of(file: Path) -> str:
    return f"{stat.S_IMODE(file.stat().st_mode):04o}"


def test_the_usage_file_and_those_beside_it_are_their_owners_alone_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        with serving(tmp_path, TEST_MODE) as server:
            assert server.call().status_code == 200
            files = sorted(tmp_path.glob("usage.db*"))
            assert {file.name: mode_of(file) for file in files} == {
                "usage.db": "0600", "usage.db-shm": "0600", "usage.db-wal": "0600",
            }  # fmt: skip
            assert not any(line["message"] == "file open to others" for line in server.lines())
    finally:
        os.umask(before)


def test_an_older_usage_file_that_others_may_read_is_told_of(tmp_path: Path) -> None:
    (tmp_path / "usage.db").touch()
    (tmp_path / "usage.db").chmod(0o644)
    with serving(tmp_path, TEST_MODE) as server:
        told = [line for line in server.lines() if line["message"] == "file open to others"]
    assert ("WARNING", str(tmp_path / "usage.db"), "0644") in {
        (line["level"], line["file"], line["mode"]) for line in told
    }


def test_production_with_keys_starts_and_open_access_does_not(tmp_path: Path) -> None:
    keys = {"LLM_GATEWAY_ACCESS": "keys", "LLM_GATEWAY_KEY_FILE": str(tmp_path / "keys.json")}
    assert problems(tmp_path, {**TEST_MODE, "LLM_GATEWAY_ENVIRONMENT": "prod", **keys}) == []
    code, lines = run(tmp_path, {**TEST_MODE, "LLM_GATEWAY_ENVIRONMENT": "prod"})
    assert (code, len(lines)) == (2, 1)


def test_a_usage_file_of_a_newer_version_is_told_of(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "usage.db")) as connection:
        connection.execute("PRAGMA user_version = 99")
    (problem,) = problems(tmp_path, TEST_MODE)
    assert "version 99" in problem


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (b"sk-test\n\n# prod key\n", "holds more than one line"),
        ("sk\N{EN DASH}test\n".encode(), "holds a character that no key has"),
        (b"export OPENAI_API_KEY=sk-test\n", "holds a variable's name"),
        (b"sk-\xff", "is not UTF-8 text"),
    ],
)
def test_a_file_of_keys_that_holds_none_is_told_of_by_its_setting(
    text: bytes, told: str, tmp_path: Path
) -> None:
    (tmp_path / "key").write_bytes(text)
    (problem,) = problems(tmp_path, {**OPEN, "LLM_GATEWAY_OPENAI_API_KEY_FILE": f"{tmp_path}/key"})
    assert problem.startswith(f"LLM_GATEWAY_OPENAI_API_KEY_FILE {told}")
    assert "sk" not in problem


@pytest.mark.parametrize("text", ["\ufeffsk-test\r\n", '\ufeff{"openai":"sk-test"}\r\n', '"sk-test"'])
def test_a_file_of_keys_of_another_system_is_read(text: str, tmp_path: Path) -> None:
    (tmp_path / "key").write_text(text, newline="")
    assert problems(tmp_path, {**OPEN, "LLM_GATEWAY_OPENAI_API_KEY_FILE": f"{tmp_path}/key"}) == []


def test_ports_that_are_taken_are_told_of_with_everything_else(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
        ports = {
            "LLM_GATEWAY_HTTP_PORT": str(one.getsockname()[1]),
            "LLM_GATEWAY_GRPC_PORT": str(other.getsockname()[1]),
        }
        told = problems(tmp_path, {**TEST_MODE, **ports, "LLM_GATEWAY_BUDGETS": "{"})
    assert [problem.split()[0] for problem in told] == ["HTTP", "gRPC", "LLM_GATEWAY_BUDGETS:"]


def test_a_file_of_gateway_keys_that_cannot_be_read_is_told_of(tmp_path: Path) -> None:
    (tmp_path / "keys.json").write_text("[]")
    keys = {"LLM_GATEWAY_ACCESS": "keys", "LLM_GATEWAY_KEY_FILE": f"{tmp_path}/keys.json"}
    (problem,) = problems(tmp_path, {**TEST_MODE, **keys})
    assert problem == "LLM_GATEWAY_KEY_FILE: The file of gateway keys cannot be read."
    (tmp_path / "keys.json").write_text('\ufeff{"keys": {}}')
    assert problems(tmp_path, {**TEST_MODE, **keys}) == []


def test_a_provider_without_keys_needs_none(tmp_path: Path) -> None:
    local = {
        "LLM_GATEWAY_MODELS": json.dumps(
            {
                "providers": {"local": {"base_url": "http://127.0.0.1:9/v1", "auth": "none"}},
                "models": [{"provider": "local", "name": "m", "like": "openai/gpt-4o-mini"}],
            }
        ),
        "LLM_GATEWAY_DEFAULT_MODEL": "local/m",
    }
    assert problems(tmp_path, {**OPEN, **local}) == []


def test_what_the_environment_says_of_proxies_and_certificates_is_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:1080")
    monkeypatch.setenv("SSL_CERT_FILE", "/nonexistent/ca.pem")
    key = {**OPEN, "LLM_GATEWAY_OPENAI_API_KEY": "sk-x"}
    assert [problem.split()[0] for problem in problems(tmp_path, key)] == ["ALL_PROXY", "SSL_CERT_FILE"]
    assert problems(tmp_path, TEST_MODE) == [], "in test mode nothing is sent"


def run(folder: Path, variables: Mapping[str, str], *arguments: str) -> tuple[int, list[str]]:
    done = subprocess.run(
        [COMMAND, "serve", *arguments],
        env=environment(folder, variables),
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert done.stdout == ""
    return done.returncode, done.stderr.splitlines()


def test_the_process_ends_with_2_and_a_line_for_each_problem(tmp_path: Path) -> None:
    wrong = {"LLM_GATEWAY_PROMPT_FOLDER": "", "LLM_GATEWAY_TLS_KEY_FILE": "key.pem"}
    code, lines = run(tmp_path, wrong)
    assert code == 2
    assert [line.split()[1] for line in lines] == [
        "LLM_GATEWAY_PROMPT_FOLDER",
        "LLM_GATEWAY_KEY_FILE",
        "both",
    ]


def test_values_that_cannot_be_read_are_told_a_line_each(tmp_path: Path) -> None:
    code, lines = run(
        tmp_path, {"LLM_GATEWAY_RETRY_LIMIT": "x", "LLM_GATEWAY_TETS": "x"}, "--http-port", "70000"
    )
    assert code == 2
    assert [line.split()[0].removeprefix("LLM_GATEWAY_") for line in lines] == [
        "HTTP_PORT", "RETRY_LIMIT", "TETS",
    ]  # fmt: skip


def test_the_process_ends_with_2_for_what_the_environment_says(tmp_path: Path) -> None:
    prompts(tmp_path / "prompts")
    (tmp_path / ".env").write_text("LLM_GATEWAY_LOG_LEVEL=ERROR")
    wrong = {"ALL_PROXY": "socks5://127.0.0.1:1080", "SSL_CERT_FILE": "/nonexistent/ca.pem"}
    code, lines = run(tmp_path, {**OPEN, "LLM_GATEWAY_OPENAI_API_KEY": "k", **wrong})
    assert (code, [line.split()[0] for line in lines]) == (2, ["ALL_PROXY", "SSL_CERT_FILE"])


def test_a_file_of_variables_sends_no_key_of_the_environment_elsewhere(tmp_path: Path) -> None:
    prompts(tmp_path / "prompts")
    (tmp_path / ".env").write_text("LLM_GATEWAY_OPENAI_BASE_URL=http://127.0.0.1:9/v1")
    code, lines = run(tmp_path, {**OPEN, "LLM_GATEWAY_OPENAI_API_KEY": "sk-canary"})
    assert (code, len(lines)) == (2, 1)
    assert "LLM_GATEWAY_OPENAI_BASE_URL" in lines[0]
    assert "sk-canary" not in lines[0]


@pytest.mark.parametrize("door", ["http", "grpc"])
def test_a_port_that_is_taken_is_told_of(door: str, tmp_path: Path) -> None:
    prompts(tmp_path / "prompts")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, lines = run(tmp_path, TEST_MODE, f"--{door}-port", str(port))
    assert code == 2
    assert any("cannot listen on" in line and str(port) in line for line in lines)
    assert not any("Traceback" in line for line in lines)


def test_a_file_of_variables_is_read_in_development_and_the_environment_wins(tmp_path: Path) -> None:
    written = {**TEST_MODE, "LLM_GATEWAY_LOG_LEVEL": "ERROR", "LLM_GATEWAY_DEFAULT_TIMEOUT_S": "7"}
    (tmp_path / ".env").write_text("\n".join(f"{name}={value}" for name, value in written.items()))
    with serving(tmp_path, {"LLM_GATEWAY_LOG_LEVEL": "INFO"}) as server:
        assert server.announced["test_mode"] is True
    for name in ("prod", "production"):
        code, lines = run(tmp_path, {"LLM_GATEWAY_ENVIRONMENT": name})
        assert (code, len(lines)) == (2, 1), f"in {name} it is not read"


def test_broken_prompts_are_counted_and_named_and_the_others_served(tmp_path: Path) -> None:
    (prompts(tmp_path / "prompts") / "broken.md").write_text("{{ nothing")
    with serving(tmp_path, TEST_MODE) as server:
        told = server.announced
        assert (told["prompts"], told["prompts_broken"], told["broken"]) == (2, 1, ["broken.md"])
        assert server.call().status_code == 200


def test_a_key_is_in_no_representation_of_the_settings() -> None:
    assert "sk-canary" not in repr(Settings.from_env({"LLM_GATEWAY_OPENAI_API_KEY": "sk-canary"}))
