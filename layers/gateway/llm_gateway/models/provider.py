"""The port of a vendor's API.

Knows no vendor; the adapters are in providers/.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from llm_gateway.models.catalogue import ModelSpec
from llm_gateway.models.completion import Completion
from llm_gateway.models.messages import Message
from llm_gateway.models.options import ModelOptions


class Provider(Protocol):
    """A vendor's API."""

    async def complete(
        self,
        model: ModelSpec,
        messages: Sequence[Message],
        options: ModelOptions,
        timeout_s: float,
    ) -> Completion:
        """One attempt. Cancelling it closes the connection.

        Raises:
            ProviderError: Whatever the vendor did wrong or refused, in the gateway's own terms.
        """
        ...
