"""A file of variables for development, and what it may not decide.

`.env` lies in the working directory, which may be a repository that was just cloned. It must not be able to
send a key that stands elsewhere to an address of its own choice, nor open it to callers of other machines.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from llm_gateway.bootstrap.settings import ENV_PREFIX, FOR_TRYING, process_environment
from llm_gateway.errors import ConfigurationError
from llm_gateway.models.endpoint_url import is_this_machine

_MODELS = f"{ENV_PREFIX}MODELS"
_ADDRESSES = (f"{ENV_PREFIX}OPENAI_BASE_URL", _MODELS, f"{ENV_PREFIX}MODELS_FILE")
_KEY, _KEY_FILE, _KEY_SECRET = (
    f"{ENV_PREFIX}{name}" for name in ("OPENAI_API_KEY", "OPENAI_API_KEY_FILE", "OPENAI_SECRET_ARN")
)
_HOST = f"{ENV_PREFIX}HOST"
_ENTRANCES = (_HOST, *(f"{ENV_PREFIX}{name}" for name in ("ACCESS", "KEY_FILE", "KEY_PEPPER_FILE")))
_DEFAULT = Path(".env")
_MOST_BYTES = 1_048_576


def environment_with(env_file: Path | None, environ: Mapping[str, str] | None = None) -> Mapping[str, str]:
    """The environment, and in development what a file says of variables that it does not set.

    Only deployments for trying things out read such a file: what any other needs is set where it runs.

    Args:
        env_file: The file that was asked for; None is `.env`, if there is one.
        environ: The environment.

    Raises:
        ConfigurationError: The file cannot be read, or names an address, or opens an entrance to other
            machines, for a key that it does not hold.
    """
    environ = process_environment() if environ is None else environ
    file = env_file or _DEFAULT
    deployment = environ.get(f"{ENV_PREFIX}ENVIRONMENT") or "local"
    if deployment not in FOR_TRYING or (env_file is None and not _is_there(file)):
        return environ
    written = {name: value for name, value in _read(file).items() if name not in environ}
    _check_key_and_address(file, written, {**written, **environ})
    return {**environ, **written}


def _is_there(file: Path) -> bool:
    try:
        return file.is_file()
    except OSError:  # the working directory may not be entered
        return False


def _read(file: Path) -> dict[str, str]:
    """The gateway's variables in a file; `${NAME}` stays as it is, so no other variable gets into them."""
    from io import StringIO

    from dotenv import dotenv_values

    try:
        if not file.is_file() or file.stat().st_size > _MOST_BYTES:
            raise ConfigurationError(
                f"The file of variables '{file}' is not there, or is no file of variables."
            )
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise ConfigurationError(f"The file of variables '{file}' cannot be read: {reason}.") from error
    found = dotenv_values(stream=StringIO(text), interpolate=False)
    return {name: value for name, value in found.items() if value and name.startswith(ENV_PREFIX)}


def _check_key_and_address(file: Path, written: Mapping[str, str], given: Mapping[str, str]) -> None:
    """Addresses and entrances in the file are for a key in the file, or in one beside or below it."""
    key = _foreign_key(file, written, given)
    if key is None:
        return
    address = next((name for name in _ADDRESSES if _names_address(name, written.get(name, ""))), None)
    if address is not None:
        raise ConfigurationError(
            f"'{file}' names an address ({address}) for a key that it does not hold ({key}), so nothing "
            f"is sent: set {address} in the environment, or the key itself in '{file}'."
        )
    entrance = next((name for name in _ENTRANCES if name in written), None)
    if entrance is not None and not is_this_machine(given.get(_HOST, "").strip() or "localhost"):
        raise ConfigurationError(
            f"'{file}' decides who may call from other machines ({entrance}) with a key that it does "
            f"not hold ({key}), so nothing is served: set {entrance} in the environment, or the key itself "
            f"in '{file}'."
        )


def _foreign_key(file: Path, written: Mapping[str, str], given: Mapping[str, str]) -> str | None:
    """The variable of the key that is used; None if the key stands in the file, or in one beside or below."""
    key = next((name for name in (_KEY, _KEY_FILE, _KEY_SECRET) if given.get(name, "").strip()), None)
    if key == _KEY and key in written:
        return None
    if key == _KEY_FILE and key in written and _lies_beside(file, written[key]):
        return None
    return key


def _names_address(name: str, value: str) -> bool:
    """True unless the value is empty, or JSON of models alone."""
    if name != _MODELS or not value:
        return bool(value)
    try:
        models = json.loads(value)
    except (ValueError, RecursionError):
        return True
    return not isinstance(models, dict) or "providers" in models


def _lies_beside(file: Path, key_file: str) -> bool:
    return Path(key_file).resolve().is_relative_to(file.resolve().parent)
