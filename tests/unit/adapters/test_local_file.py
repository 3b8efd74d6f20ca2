"""Files are read whole or not at all, and what is no file is never opened."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from llm_gateway.adapters.local.local_file import NotAFile, read_local_file, read_whole


def test_a_file_is_read_with_its_size_and_time(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_bytes(b"text")
    found = read_local_file(file, 10)
    assert (found.data, found.size_bytes, found.modified) == (b"text", 4, file.stat().st_mtime)


def test_of_a_larger_file_only_the_size_is_told(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"text")
    assert (read_local_file(tmp_path / "a", 3).data, read_local_file(tmp_path / "a", 3).size_bytes) == (
        None,
        4,
    )
    with pytest.raises(OSError, match="too large"):
        read_whole(tmp_path / "a", 3)


def test_a_file_that_an_editor_has_just_emptied_is_waited_for(tmp_path: Path) -> None:
    file, pauses = tmp_path / "a", list[float]()
    file.write_bytes(b"")

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 2:
            file.write_bytes(b"written")

    assert read_local_file(file, 10, pause).data == b"written"
    assert len(pauses) == 2


def test_a_file_that_stays_empty_is_empty(tmp_path: Path) -> None:
    pauses = list[float]()
    (tmp_path / "a").write_bytes(b"")
    assert read_local_file(tmp_path / "a", 10, pauses.append).data == b""
    os.utime(tmp_path / "a", (1, 1))
    pauses.clear()
    assert read_local_file(tmp_path / "a", 10, pauses.append).data == b""
    assert pauses == [], "one that is older is nobody's unfinished work"


def test_a_pipe_a_device_and_a_folder_are_refused_before_they_are_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(NotAFile):
            read_local_file(path, 10)
    with pytest.raises(IsADirectoryError):
        read_local_file(tmp_path, 10)
