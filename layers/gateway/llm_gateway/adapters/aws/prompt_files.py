"""Prompt files in a versioned S3 bucket; a prompt's path is its key."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Mapping
from itertools import dropwhile, islice
from typing import TYPE_CHECKING, Any

from llm_gateway.adapters.aws.sdk import Refused, ask
from llm_gateway.errors import PromptNotFound
from llm_gateway.prompts.catalogue.assembly import Upload

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


_LOOK_BACK = 20


class S3PromptFiles:
    """Reads and writes versions; see PromptBodies and PromptUploads."""

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

    async def upload(self, path: str, data: bytes) -> str:
        """Make `data` the newest version of the file at `path`; returns the version's id."""
        answer = await ask(
            self._client.put_object,
            Bucket=self._bucket,
            Key=path,
            Body=data,
            ContentType="text/plain; charset=utf-8",
        )
        return answer["VersionId"]

    async def newest(self, path: str, max_bytes: int) -> Upload | None:
        """See PromptUploads.newest."""
        try:
            return await ask(self._upload, path, max_bytes)
        except Refused:
            return None

    async def earlier(
        self, path: str, version: str | None, max_bytes: int, *, deleted_too: bool = False
    ) -> AsyncGenerator[Upload, None]:
        """See PromptUploads.earlier.

        S3 dates deletions to the second: a version of the same second counts as deleted, too. Looks
        back over 20 versions at most.
        """
        listed = await ask(self._versions, path)
        deleted = [] if deleted_too else [marker["LastModified"] for marker in listed[1]]
        older: Iterable[Any] = listed[0]
        if version is not None:
            older = islice(dropwhile(lambda found: found["VersionId"] != version, older), 1, None)
        for found in islice(older, _LOOK_BACK):
            if any(found["LastModified"] <= moment for moment in deleted):
                return
            try:
                yield await ask(self._upload, path, max_bytes, VersionId=found["VersionId"])
            except Refused:
                continue  # deleted for good since the listing

    async def current(self) -> Mapping[str, str]:
        """See PromptUploads.current."""
        return await ask(self._current)

    def _read(self, path: str, version: str) -> bytes:
        answer = self._client.get_object(Bucket=self._bucket, Key=path, VersionId=version)
        return answer["Body"].read()

    def _current(self) -> dict[str, str]:
        pages = self._client.get_paginator("list_object_versions").paginate(Bucket=self._bucket)
        versions = (found for page in pages for found in page.get("Versions", []))
        return {found["Key"]: found["VersionId"] for found in versions if found["IsLatest"]}

    def _versions(self, path: str) -> tuple[list[Any], list[Any]]:
        """Versions and delete markers of exactly `path`, newest first."""
        pages = list(
            self._client.get_paginator("list_object_versions").paginate(Bucket=self._bucket, Prefix=path)
        )
        versions: list[Any] = [v for page in pages for v in page.get("Versions", []) if v["Key"] == path]
        markers: list[Any] = [m for page in pages for m in page.get("DeleteMarkers", []) if m["Key"] == path]
        return versions, markers

    def _upload(self, path: str, max_bytes: int, **which: Any) -> Upload:
        answer = self._client.get_object(Bucket=self._bucket, Key=path, **which)
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
