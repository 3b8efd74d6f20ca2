"""Secrets from AWS Secrets Manager: the providers' keys, and what the gateway's own keys are hashed with."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from llm_gateway.adapters.aws.sdk import Refused, ask
from llm_gateway.errors import ConfigurationError, StoreUnavailable
from llm_gateway.providers.keys import Read, unreadable

if TYPE_CHECKING:
    from mypy_boto3_secretsmanager import SecretsManagerClient


def in_secrets_manager(client: Callable[[], SecretsManagerClient], arn: str) -> Read:
    """Reads the secret of the providers' keys; the client is asked for when it is first needed."""

    async def read() -> str:
        try:
            return await _secret_text(client(), arn)
        except (Refused, StoreUnavailable) as error:
            raise unreadable() from error

    return read


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
