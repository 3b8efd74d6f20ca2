"""What every store of prompt files promises: the fake, a folder, S3 by moto, S3 by the local AWS."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from moto import mock_aws

from llm_gateway.adapters.aws.prompt_files import S3PromptFiles
from llm_gateway.adapters.local.prompt_files import FolderPromptFiles
from llm_gateway.errors import PromptNotFound
from llm_gateway.prompts.catalogue.assembly import PromptUploads
from llm_gateway.prompts.catalogue.catalogue import PromptBodies
from local_aws.emulator import Emulator
from tests.contract.tables import client, create_bucket
from tests.fakes import InMemoryPromptFiles

PATH = "support/grüße & more.prompt"


@dataclass
class Files:
    bodies: PromptBodies
    uploads: PromptUploads
    upload: Callable[[str, bytes], str]
    delete: Callable[[str], object]


def s3_files(emulator: Emulator | None) -> Files:
    s3 = client("s3", emulator)
    bucket = create_bucket(s3)

    def upload(path: str, data: bytes) -> str:
        return str(s3.put_object(Bucket=bucket, Key=path, Body=data)["VersionId"])

    def delete(path: str) -> object:
        return s3.delete_object(Bucket=bucket, Key=path)

    return Files(S3PromptFiles(s3, bucket), S3PromptFiles(s3, bucket), upload, delete)


def folder_files(root: Path) -> Files:
    files = FolderPromptFiles(root)

    def delete(path: str) -> object:
        (root / path).unlink()
        return asyncio.run(files.newest(path, 1000))  # a folder knows of a deletion once somebody looked

    return Files(files, files, lambda path, data: asyncio.run(files.upload(path, data)), delete)


@pytest.fixture(params=["memory", "folder", "moto", "local-aws"])
def files(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Files]:
    if request.param == "memory":
        fake = InMemoryPromptFiles()
        yield Files(fake, fake, fake.upload, fake.delete)
    elif request.param == "folder":
        yield folder_files(tmp_path)
    elif request.param == "moto":
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        with mock_aws():
            yield s3_files(None)
    else:
        yield s3_files(request.getfixturevalue("emulator"))


def history(files: Files, path: str, version: str, max_bytes: int = 1000) -> list[bytes | None]:
    async def collected() -> list[bytes | None]:
        return [upload.data async for upload in files.uploads.earlier(path, version, max_bytes)]

    return asyncio.run(collected())


def test_what_was_there_before_comes_newest_first_and_only_of_that_path(files: Files) -> None:
    for text in (b"one", b"two", b"three"):
        version = files.upload(PATH, text)
    files.upload(PATH + ".md", b"other")
    assert history(files, PATH, version) == [b"two", b"one"]
    assert history(files, PATH, version, max_bytes=3) == [b"two", b"one"]
    assert history(files, PATH, version, max_bytes=2) == [None, None]


def test_nothing_from_before_a_deletion_counts_as_earlier(files: Files) -> None:
    files.upload(PATH, b"one")
    time.sleep(1.1)  # S3 dates to the second
    files.delete(PATH)
    time.sleep(1.1)
    files.upload(PATH, b"two")
    assert history(files, PATH, files.upload(PATH, b"three")) == [b"two"]


def test_current_names_the_newest_version_of_what_exists(files: Files) -> None:
    files.upload("a.md", b"one")
    a, b = files.upload("a.md", b"two"), files.upload("b.md", b"one")
    files.upload("gone.md", b"one")
    files.delete("gone.md")
    assert asyncio.run(files.uploads.current()) == {"a.md": a, "b.md": b}


def test_each_version_keeps_its_own_bytes(files: Files) -> None:
    first, second = files.upload(PATH, b"one"), files.upload(PATH, b"two")
    assert asyncio.run(files.bodies.read(PATH, first)) == b"one"
    assert asyncio.run(files.bodies.read(PATH, second)) == b"two"


def test_a_version_that_never_was_is_not_found(files: Files) -> None:
    files.upload(PATH, b"one")
    with pytest.raises(PromptNotFound) as caught:
        asyncio.run(files.bodies.read(PATH, "096fKKXTRTtl3on89fVO.nfljtsv6qko"))
    assert caught.value.param == "version"


def test_newest_is_the_last_upload_with_its_version_and_size(files: Files) -> None:
    files.upload(PATH, b"one")
    version = files.upload(PATH, b"three")
    upload = asyncio.run(files.uploads.newest(PATH, 1000))
    assert upload is not None
    assert (upload.version, upload.size_bytes, upload.data) == (version, 5, b"three")
    assert upload.etag
    assert '"' not in upload.etag
    assert upload.last_modified.tzinfo is not None


def test_a_file_over_the_limit_is_described_but_not_read(files: Files) -> None:
    files.upload(PATH, b"three")
    upload = asyncio.run(files.uploads.newest(PATH, 4))
    assert upload is not None
    assert (upload.size_bytes, upload.data) == (5, None)


def test_a_deleted_or_unknown_file_has_no_newest_but_keeps_its_versions(files: Files) -> None:
    version = files.upload(PATH, b"one")
    files.delete(PATH)
    assert asyncio.run(files.uploads.newest(PATH, 1000)) is None
    assert asyncio.run(files.uploads.newest("never.md", 1000)) is None
    assert asyncio.run(files.bodies.read(PATH, version)) == b"one"
