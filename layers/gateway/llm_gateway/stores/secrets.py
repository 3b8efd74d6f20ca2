"""Keys of other services, from AWS Secrets Manager."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from llm_gateway.errors import ConfigurationError
from llm_gateway.stores.aws import ask

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.parameters import SecretsProvider

_KEPT_S = 300


class SecretKey:
    """A key fetched when it is first needed and again every five minutes, so a rotation is noticed."""

    def __init__(self, provider: Callable[[], SecretsProvider], arn: str) -> None:
        self._provider = provider
        self._arn = arn

    async def __call__(self) -> str:
        """The key.

        Raises:
            ConfigurationError: The secret is empty or cannot be read; its value is never repeated.
        """
        from aws_lambda_powertools.utilities.parameters.exceptions import GetParameterError

        try:
            value = await ask(self._provider().get, self._arn, max_age=_KEPT_S)
        except GetParameterError as error:
            raise ConfigurationError("The provider's key cannot be read; see the gateway's logs.") from error
        if not isinstance(value, str) or not value.strip():
            # So that a key put there now works with the next call.
            self._provider().clear_cache()  # type: ignore[no-untyped-call]
            raise ConfigurationError("The provider's key is empty; put it into its secret.")
        return value.strip()
