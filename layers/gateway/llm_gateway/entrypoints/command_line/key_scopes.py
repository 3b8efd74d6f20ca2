"""Scopes of gateway keys as operators write and read them."""

from __future__ import annotations

from llm_gateway.access.caller import METHODS, Scopes
from llm_gateway.errors import InvalidParameter, InvalidPath
from llm_gateway.prompts.files.path import EXTENSIONS, check_path, has_extension
from llm_gateway.suggestions import did_you_mean


def check_prompt_scope(bound: str) -> str:
    """A directory with its slash, or a file with its extension: what a new key may be bound to.

    Raises:
        InvalidParameter: It is neither. Without the slash, `support` would open `support2/` as well.
    """
    if not bound:
        raise InvalidParameter("--prompt is empty; is a variable unset? Leave it out to allow every prompt.")
    if not (bound.endswith("/") or has_extension(bound)):
        raise InvalidParameter(
            f"--prompt '{bound}' must end in '/' or name a file with its extension "
            f"({', '.join(EXTENSIONS)}), for example {_example(bound)}; "
            "leave --prompt out to allow every prompt."
        )
    try:
        check_path(bound.removesuffix("/"), "--prompt")
    except InvalidPath as error:
        raise InvalidParameter(error.message) from None
    return bound


def check_model_scope(bound: str) -> str:
    """`provider/name`, in which `*` stands for any text.

    Raises:
        InvalidParameter: It is not; `*` alone or `*/*` would be a bound that bounds nothing, and `?` and
            `[` would match more than they seem to.
    """
    if not bound:
        raise InvalidParameter("--model is empty; is a variable unset? Leave it out to allow every model.")
    provider, slash, name = bound.partition("/")
    if not (provider.strip() and slash and name.strip()) or bound != bound.strip():
        raise InvalidParameter(
            f"--model '{bound}' must be provider/name, for example openai/gpt-4o-mini or openai/*; "
            "leave --model out to allow every model."
        )
    if any(sign in bound for sign in "?["):
        raise InvalidParameter(
            f"--model '{bound}' must hold no '?' and no '['; only '*' stands for other text."
        )
    if not bound.replace("*", "").strip("/"):
        raise InvalidParameter(f"--model '{bound}' allows every model; leave --model out if that is meant.")
    return bound


def check_method(name: str) -> str:
    """A method of the gateway.

    Raises:
        InvalidParameter: There is none of that name.
    """
    if name not in METHODS:
        meant = did_you_mean(name, METHODS)
        raise InvalidParameter(f"There is no method {name}; there are {', '.join(METHODS)}.{meant}")
    return name


def is_wide(scopes: Scopes) -> bool:
    """True if a scope opens more prompts than it seems to; only earlier versions made such keys."""
    return any(_wide(bound) for bound in scopes.prompts or ())


def allowed(scopes: Scopes) -> str:
    """What a key allows, in one line."""
    bounds = [
        *(scopes.methods or ()),
        *(_shown(bound) for bound in scopes.prompts or ()),
        *(scopes.models or ()),
        *(["all usage"] if scopes.all_usage else []),
        *([f"{scopes.calls_per_minute} calls a minute"] if scopes.calls_per_minute else []),
    ]
    return ", ".join(bounds) or "everything of its own"


def _wide(bound: str) -> bool:
    return not (bound.endswith("/") or has_extension(bound))


def _shown(bound: str) -> str:
    if not bound:
        return "every prompt (WIDE: the scope is empty)"
    if _wide(bound):
        return f"{bound}… (WIDE: whatever begins so)"
    return f"{bound}…" if bound.endswith("/") else bound


def _example(bound: str) -> str:
    name = bound.strip("/*") or "support"
    return f"{name}/ or {name}{EXTENSIONS[0]}"
