"""What a file of variables in the working directory may say, and what it may not decide."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from llm_gateway.bootstrap.env_file import environment_with
from llm_gateway.bootstrap.settings import Settings
from llm_gateway.errors import ConfigurationError

P = "LLM_GATEWAY_"
EVIL = f"{P}OPENAI_BASE_URL=https://evil.example/v1"
PROVIDER = json.dumps({"providers": {"openai": {"base_url": "https://evil.example/v1"}}})


def written(folder: Path, *lines: str) -> Path:
    file = folder / ".env"
    file.write_text("\n".join(lines))
    return file


def test_the_file_fills_in_what_the_environment_does_not_set(tmp_path: Path) -> None:
    file = written(tmp_path, f"{P}LOG_LEVEL=ERROR", f"{P}HOST=::", "HTTPS_PROXY=http://evil.example")
    given = environment_with(file, {f"{P}LOG_LEVEL": "INFO", "PATH": "/bin"})
    assert given == {f"{P}LOG_LEVEL": "INFO", f"{P}HOST": "::", "PATH": "/bin"}


def test_no_other_variable_gets_into_a_value(tmp_path: Path) -> None:
    file = written(tmp_path, f"{P}OPENAI_API_KEY=${{OPENAI_API_KEY}}", EVIL)
    given = environment_with(file, {"OPENAI_API_KEY": "sk-canary"})
    assert given[f"{P}OPENAI_API_KEY"] == "${OPENAI_API_KEY}", "which is refused as a placeholder"


@pytest.mark.parametrize(
    "address",
    [EVIL, f"{P}MODELS={PROVIDER}", f"{P}MODELS='{PROVIDER}'", f"{P}MODELS={{", f"{P}MODELS_FILE=m.json"],
)
@pytest.mark.parametrize("key", ["OPENAI_API_KEY", "OPENAI_API_KEY_FILE", "OPENAI_SECRET_ARN"])
def test_an_address_in_the_file_gets_no_key_of_the_environment(
    address: str, key: str, tmp_path: Path
) -> None:
    file = written(tmp_path, address)
    with pytest.raises(ConfigurationError, match=f"{address.partition('=')[0]}.*{P}{key}") as caught:
        environment_with(file, {f"{P}{key}": "sk-canary"})
    assert "sk-canary" not in caught.value.message


@pytest.mark.parametrize("key", ["OPENAI_API_KEY_FILE=/home/ada/.ssh/id_rsa", "OPENAI_API_KEY_FILE=../key"])
def test_nor_a_file_from_elsewhere_on_the_disk(key: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="OPENAI_API_KEY_FILE"):
        environment_with(written(tmp_path, EVIL, f"{P}{key}"), {})


def test_nor_one_that_a_link_leads_to(tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    repository.mkdir()
    (tmp_path / "key").write_text("sk-canary")
    (repository / "key").symlink_to(tmp_path / "key")
    with pytest.raises(ConfigurationError, match="OPENAI_API_KEY_FILE"):
        environment_with(written(repository, EVIL, f"{P}OPENAI_API_KEY_FILE={repository}/key"), {})


def test_nor_a_secret_of_aws(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="OPENAI_SECRET_ARN"):
        environment_with(written(tmp_path, EVIL, f"{P}OPENAI_SECRET_ARN=arn:aws:x"), {})


def test_nor_a_key_of_the_environment_that_stands_in_the_file_as_well(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="OPENAI_API_KEY"):
        environment_with(written(tmp_path, EVIL, f"{P}OPENAI_API_KEY=x"), {f"{P}OPENAI_API_KEY": "sk-canary"})


@pytest.mark.parametrize(
    ("lines", "environ"),
    [
        ([EVIL, f"{P}OPENAI_API_KEY=sk-own"], {}),
        ([EVIL, f"{P}OPENAI_API_KEY=sk-own"], {f"{P}OPENAI_API_KEY_FILE": "/elsewhere"}),
        ([EVIL], {}),
        ([f"{P}OPENAI_API_KEY=sk-own"], {f"{P}OPENAI_BASE_URL": "https://mine.example/v1"}),
        ([EVIL], {f"{P}OPENAI_API_KEY": "sk-x", f"{P}OPENAI_BASE_URL": "https://mine.example/v1"}),
        ([f'{P}MODELS={{"models": []}}'], {f"{P}OPENAI_API_KEY": "sk-x"}),
    ],
)
def test_whatever_sends_no_foreign_key_is_taken(
    lines: list[str], environ: dict[str, str], tmp_path: Path
) -> None:
    given = environment_with(written(tmp_path, *lines), environ)
    assert environ.items() <= given.items()


def test_a_key_file_beside_it_is_its_own(tmp_path: Path) -> None:
    file = written(tmp_path, EVIL, f"{P}OPENAI_API_KEY_FILE={tmp_path}/secrets/key")
    assert f"{P}OPENAI_BASE_URL" in environment_with(file, {})


def test_in_production_it_is_not_read(tmp_path: Path) -> None:
    environ = {f"{P}ENVIRONMENT": "prod"}
    assert environment_with(written(tmp_path, f"{P}HOST=::"), environ) == environ


def test_a_file_that_was_asked_for_must_be_there_and_readable(tmp_path: Path) -> None:
    (tmp_path / "latin").write_bytes(b"X=\xff")
    for path in (tmp_path / "missing", tmp_path, tmp_path / "latin"):
        with pytest.raises(ConfigurationError, match="file of variables"):
            environment_with(path, {})


@pytest.mark.parametrize(
    "entrance", ["ACCESS=open", "KEY_FILE=keys.json", "KEY_PEPPER_FILE=pepper", "HOST=::"]
)
@pytest.mark.parametrize("host", ["::", "10.0.0.1", "gateway.example"])
def test_the_file_opens_no_entrance_to_other_machines_for_a_key_of_the_environment(
    entrance: str, host: str, tmp_path: Path
) -> None:
    lines = [f"{P}{entrance}"] if entrance.startswith("HOST") else [f"{P}{entrance}", f"{P}HOST={host}"]
    with pytest.raises(ConfigurationError, match=f"who may call .*{P}OPENAI_API_KEY") as caught:
        environment_with(written(tmp_path, *lines), {f"{P}OPENAI_API_KEY": "sk-canary"})
    assert "sk-canary" not in caught.value.message
    environ = {f"{P}OPENAI_API_KEY": "sk-canary", f"{P}HOST": host}
    with pytest.raises(ConfigurationError, match="who may call"):
        environment_with(written(tmp_path, f"{P}ACCESS=open"), environ)


@pytest.mark.parametrize(
    "environ",
    [
        {f"{P}OPENAI_API_KEY": "sk-x"},
        {f"{P}OPENAI_API_KEY": "sk-x", f"{P}HOST": "::1"},
        {f"{P}HOST": "::"},
        {f"{P}OPENAI_API_KEY": "sk-x", f"{P}HOST": "::", f"{P}ACCESS": "keys"},
    ],
)
def test_it_may_say_who_calls_on_this_machine_or_without_a_foreign_key(
    environ: dict[str, str], tmp_path: Path
) -> None:
    given = environment_with(written(tmp_path, f"{P}ACCESS=open"), environ)
    assert given == {f"{P}ACCESS": "open", **environ}


@pytest.mark.parametrize(
    "name", ["openai_base_url", "OpenAI_Base_Url", "OPENAI_BASE_URl", "models", "Models_File"]
)
def test_no_other_spelling_of_a_name_passes_by_the_check(name: str, tmp_path: Path) -> None:
    file = written(tmp_path, f"{P}{name}=https://evil.example/v1")
    given = environment_with(file, {f"{P}OPENAI_API_KEY": "sk-canary"})
    with pytest.raises(ConfigurationError, match="is not a setting"):
        Settings.from_env(given)
