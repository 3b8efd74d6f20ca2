"""Prompt files in a versioned S3 bucket; a prompt's path is its key."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llm_gateway.errors import PromptNotFound
from llm_gateway.prompts.indexing import Upload
from llm_gateway.stores.aws import Refused, ask

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


class S3PromptBodies:
    """Reads versions; each is immutable."""

    def __init__(self, client: S3Client, bucket: str) -> None:
        self._client = client
        self._bucket = bucket

    async def read(self, path: str, version: str) -> bytes:
        """See PromptBodies.read."""
        try:
            return await ask(self._read, path, version)
        except Refused as refusal:
            raise PromptNotFound(
                f"There is no such version of '{path}'; leave 'version' out for the current one.",
                param="version",
            ) from refusal

    def _read(self, path: str, version: str) -> bytes:
        answer = self._client.get_object(Bucket=self._bucket, Key=path, VersionId=version)
        return answer["Body"].read()


class S3PromptUploads:
    """Reads what is newest."""

    def __init__(self, client: S3Client, bucket: str) -> None:
        self._client = client
        self._bucket = bucket

    async def newest(self, path: str, max_bytes: int) -> Upload | None:
        """See PromptUploads.newest."""
        try:
            return await ask(self._newest, path, max_bytes)
        except Refused:
            return None

    def _newest(self, path: str, max_bytes: int) -> Upload:
        answer = self._client.get_object(Bucket=self._bucket, Key=path)
        size = answer["ContentLength"]
        with answer["Body"] as body:
            data = body.read() if size <= max_bytes else None
        return Upload(
            version=answer["VersionId"],
            etag=answer["ETag"].strip('"'),
            size_bytes=size,
            last_modified=answer["LastModified"],
            data=data,
        )
