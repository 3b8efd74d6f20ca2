"""DynamoDB's PutItem over the gateway's own HTTP client: half the CPU of the SDK's, and it can be cancelled.

The SDK resolves the endpoint, holds the credentials and signs; only the sending is done here. The ledger
writes once in every call, and a write that hangs must cost its caller no more than its time.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import httpx2
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.exceptions import ClientError

from llm_gateway.adapters.aws.sdk import REFUSALS, Refused, unavailable

if TYPE_CHECKING:
    from botocore.credentials import Credentials
    from mypy_boto3_dynamodb import DynamoDBClient

_HEADERS = {"Content-Type": "application/x-amz-json-1.0", "X-Amz-Target": "DynamoDB_20120810.PutItem"}
_MAY_PASS = {
    "InternalServerError",
    "ProvisionedThroughputExceededException",
    "RequestLimitExceeded",
    "ServiceUnavailable",
    "ThrottlingException",
}
_ATTEMPTS = 3
_LONGEST_PAUSE_S = 0.05


class SignedPut:
    """Puts items; the arguments are those of the SDK's put_item, without binary values.

    Args:
        http: Sends the requests.
        client: Tells endpoint and region.
        credentials: Sign the requests; they renew themselves.
    """

    def __init__(self, http: httpx2.AsyncClient, client: DynamoDBClient, credentials: Credentials) -> None:
        self._http = http
        self._url = f"{client.meta.endpoint_url.rstrip('/')}/"
        self._region = client.meta.region_name
        self._credentials = credentials

    async def __call__(self, **arguments: Any) -> None:
        """Put one item.

        Raises:
            Refused: The condition failed.
            StoreUnavailable: Anything else, after a few attempts where another one may do better.
        """
        body = json.dumps(arguments).encode()
        for attempt in range(1, _ATTEMPTS + 1):
            code = await self._failure(body)
            if code is None:
                return
            if code in REFUSALS:
                raise Refused(ClientError({"Error": {"Code": code}}, "PutItem"))
            if code not in _MAY_PASS or attempt == _ATTEMPTS:
                raise unavailable(code)
            await asyncio.sleep(random.uniform(0, _LONGEST_PAUSE_S))

    async def _failure(self, body: bytes) -> str | None:
        """Why an attempt failed, in AWS's words; None if it did not."""
        try:
            response = await self._http.post(self._url, content=body, headers=self._signed(body))
        except httpx2.TransportError:  # for example a connection that died while the environment was frozen
            return "ServiceUnavailable"
        if response.status_code == 200:
            return None
        return _code(response)

    def _signed(self, body: bytes) -> dict[str, str]:
        request = AWSRequest(method="POST", url=self._url, data=body, headers=_HEADERS)
        SigV4Auth(self._credentials.get_frozen_credentials(), "dynamodb", self._region).add_auth(request)
        return dict(request.headers.items())


def _code(response: httpx2.Response) -> str:
    try:
        error: Mapping[str, Any] = response.json()
        return str(error["__type"]).rpartition("#")[2]
    except (ValueError, KeyError, TypeError):
        return "ServiceUnavailable" if response.status_code >= 500 else f"HTTP{response.status_code}"
