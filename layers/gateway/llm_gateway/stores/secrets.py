"""Secrets from AWS Secrets Manager: the providers' keys, and what the gateway's own keys are hashed with."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from llm_gateway.errors import ConfigurationError, StoreUnavailable
from llm_gateway.stores.aws import Refused, ask

if TYPE_CHECKING:
    from mypy_boto3_secretsmanager import SecretsManagerClient

_KEPT_S = 300
_OWNER_OF_PLAIN_TEXT = "openai"


class SecretKey:
    """A provider's key, fetched when it is first needed and again every five minutes.

    The secret holds OpenAI's key as plain text, or a JSON object with the key of each provider by its name.

    Args:
        client: Gives the client, when it is first needed.
        arn: The secret.
        name: The provider.
        clock: Seconds that only grow.
    """

    def __init__(
        self,
        client: Callable[[], SecretsManagerClient],
        arn: str,
        name: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._arn = arn
        self._name = name
        self._clock = clock
        self._key = ""
        self._fetched = -math.inf

    async def __call__(self) -> str:
        """The key.

        Raises:
            ConfigurationError: The secret cannot be read or does not hold the key; its value is never
                repeated.
        """
        if not self._key or self._clock() - self._fetched >= _KEPT_S:
            self._key, self._fetched = await self._fetch(), self._clock()
        return self._key

    async def _fetch(self) -> str:
        try:
            text = await _secret_text(self._client(), self._arn)
        except (Refused, StoreUnavailable) as error:
            raise ConfigurationError("The provider's key cannot be read; see the gateway's logs.") from error
        key = _key_in(text, self._name)
        if not key:
            raise ConfigurationError(f"The key of provider '{self._name}' is empty; put it into the secret.")
        return key


class SecretPepper:
    """What hashes of gateway keys are keyed with, fetched once: it never changes; see Pepper.

    Args:
        client: Gives the client, when it is first needed.
        arn: The secret.
    """

    def __init__(self, client: Callable[[], SecretsManagerClient], arn: str) -> None:
        self._client = client
        self._arn = arn
        self._value = b""

    async def __call__(self) -> bytes:
        """The secret.

        Raises:
            ConfigurationError: It is not there, or empty.
            StoreUnavailable: It cannot be read right now.
        """
        if not self._value:
            try:
                self._value = (await _secret_text(self._client(), self._arn)).encode()
            except Refused as error:
                raise ConfigurationError("The secret of the gateway keys cannot be read.") from error
            if not self._value:
                raise ConfigurationError("The secret of the gateway keys is empty.")
        return self._value


async def _secret_text(client: SecretsManagerClient, arn: str) -> str:
    return (await ask(client.get_secret_value, SecretId=arn)).get("SecretString", "")


def _key_in(secret: str, provider: str) -> str:
    if not secret.lstrip().startswith("{"):
        return secret.strip() if provider == _OWNER_OF_PLAIN_TEXT else ""
    try:
        keys = json.loads(secret)
    except ValueError:
        return ""
    return str(keys.get(provider) or "").strip()
