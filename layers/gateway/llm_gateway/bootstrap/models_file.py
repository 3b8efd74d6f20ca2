"""The file of the deployment's own models and rates, on a disk or in S3."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from llm_gateway.adapters.local.local_file import read_whole
from llm_gateway.errors import ConfigurationError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_SCHEME = "s3://"
_MOST_BYTES = 16_777_216


def read_models_file(place: str, s3: Callable[[], S3Client]) -> str:
    """The file's text.

    Args:
        place: A path, or s3://bucket/key.
        s3: Gives the client, if the file is in S3.

    Raises:
        ConfigurationError: It cannot be read.
    """
    if place.startswith(_SCHEME):
        return _in_bucket(place, s3)
    try:
        return read_whole(place, _MOST_BYTES).decode("utf-8-sig")
    except (OSError, ValueError) as error:
        raise _unreadable(place, error) from error


def _in_bucket(place: str, s3: Callable[[], S3Client]) -> str:
    from botocore.exceptions import BotoCoreError, ClientError

    bucket, _, key = place.removeprefix(_SCHEME).partition("/")
    try:
        return s3().get_object(Bucket=bucket, Key=key)["Body"].read().decode("utf-8-sig")
    except (ValueError, BotoCoreError, ClientError) as error:
        raise _unreadable(place, error) from error


def _unreadable(place: str, error: Exception) -> ConfigurationError:
    reason = f"LLM_GATEWAY_MODELS_FILE: '{place}' cannot be read ({type(error).__name__})."
    return ConfigurationError(reason)
