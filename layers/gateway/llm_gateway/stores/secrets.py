"""Keys of the providers, from AWS Secrets Manager."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING

from llm_gateway.errors import ConfigurationError
from llm_gateway.stores.aws import ask

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.parameters import SecretsProvider

_KEPT_S = 300
_OWNER_OF_PLAIN_TEXT = "openai"


class SecretKey:
    """A provider's key, fetched when it is first needed and again every five minutes.

    The secret holds OpenAI's key as plain text, or a JSON object with the key of each provider by its name.

    Args:
        secrets: Gives the client.
        arn: The secret.
        name: The provider.
    """

    def __init__(self, secrets: Callable[[], SecretsProvider], arn: str, name: str) -> None:
        self._secrets = secrets
        self._arn = arn
        self._name = name

    async def __call__(self) -> str:
        """The key.

        Raises:
            ConfigurationError: The secret cannot be read or does not hold the key; its value is never
                repeated.
        """
        from aws_lambda_powertools.utilities.parameters.exceptions import GetParameterError

        try:
            value = await ask(self._secrets().get, self._arn, max_age=_KEPT_S)
        except GetParameterError as error:
            raise ConfigurationError("The provider's key cannot be read; see the gateway's logs.") from error
        key = _key(value, self._name)
        if not key:
            # So that a key put there now works with the next call.
            self._secrets().clear_cache()  # type: ignore[no-untyped-call]
            raise ConfigurationError(f"The key of provider '{self._name}' is empty; put it into the secret.")
        return key


def _key(secret: object, provider: str) -> str:
    if not isinstance(secret, str):
        return ""
    if not secret.lstrip().startswith("{"):
        return secret.strip() if provider == _OWNER_OF_PLAIN_TEXT else ""
    try:
        keys = json.loads(secret)
    except ValueError:
        return ""
    return str(keys.get(provider) or "").strip()
