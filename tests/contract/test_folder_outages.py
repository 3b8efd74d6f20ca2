"""A folder that is replaced, goes away or holds odd files: the last good prompts are served meanwhile."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

import pytest

from llm_gateway.adapters.local import prompt_archive
from llm_gateway.adapters.local.prompt_files import FolderPromptFiles
from llm_gateway.adapters.local.prompt_index import FolderPromptIndex
from llm_gateway.adapters.local.prompt_tree import look_at
from llm_gateway.adapters.local.prompt_watcher import FolderWatch
from llm_gateway.errors import PromptNotFound, StoreUnavailable
from llm_gateway.prompts.catalogue.catalogue import Catalogue
from llm_gateway.prompts.catalogue.indexing import PromptIndexer
from llm_gateway.prompts.catalogue.labels import LabelMove, shares_of
from llm_gateway.prompts.catalogue.shares import Labels
from tests.fakes import NOON, RecordingObserver

AWAY = "prompt folder unavailable, last good prompts are served"
BACK = "prompt folder available again"
NOT_READ = "prompt file not read"


class Process:
    """One process that looks at its folder when it is told to."""

    def __init__(self, root: Path, silent_s: float = 10) -> None:
        self.files, self.index = FolderPromptFiles(root), FolderPromptIndex(root)
        indexer = PromptIndexer(self.files, self.index, 10_000, lambda: NOON)
        self.observer = RecordingObserver()
        self.watch = FolderWatch(root, indexer, self.observer, self.faults, silent_s)
        self.catalogue = Catalogue(self.index, self.files, ttl_s=0, cache_bytes=0, clock=time.monotonic)

    def faults(self) -> Mapping[str, str]:
        return {**self.files.faults, **self.index.faults}

    async def look(self) -> dict[str, str]:
        """Every prompt that is served after another look, with its text; nothing of it is cached."""
        await self.watch.look()
        entries = (await self.index.page("", 100, None)).entries
        return {entry.path: await self.text(entry.path) for entry in entries}

    async def text(self, path: str, version: str | None = None, label: str | None = None) -> str:
        (message,) = (await self.catalogue.load(path, version, label)).render({}, 1_000)
        return message.content

    def told(self, message: str) -> list[Mapping[str, object]]:
        return [facts for said, facts in self.observer.notes if said == message]


def played(scenario: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(scenario(), 30))


def write(folder: Path, **texts: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        (folder / f"{name}.md").write_text(text)
    return folder


def point(link: Path, target: str) -> None:
    """Replace a link in one step, as git-sync and the kubelet do."""
    new = link.with_name("..new")
    new.symlink_to(target)
    new.replace(link)


def test_a_link_above_the_folder_that_is_replaced_is_followed_at_the_next_look(tmp_path: Path) -> None:
    write(tmp_path / ".worktrees/a/prompts", a="one", gone="gone")
    write(tmp_path / ".worktrees/b/prompts", a="two", new="new")
    point(tmp_path / "current", ".worktrees/a")

    async def scenario() -> None:
        process = Process(tmp_path / "current" / "prompts")
        assert await process.look() == {"a.md": "one", "gone.md": "gone"}
        point(tmp_path / "current", ".worktrees/b")
        assert await process.look() == {"a.md": "two", "new.md": "new"}
        shutil.rmtree(tmp_path / ".worktrees/a")
        assert await process.look() == {"a.md": "two", "new.md": "new"}
        assert not process.told(AWAY)

    played(scenario)


def test_the_folder_itself_may_be_the_link(tmp_path: Path) -> None:
    write(tmp_path / "1", a="one")
    write(tmp_path / "2", a="two")
    point(tmp_path / "current", "1")

    async def scenario() -> None:
        process = Process(tmp_path / "current")
        assert await process.look() == {"a.md": "one"}
        point(tmp_path / "current", "2")
        assert await process.look() == {"a.md": "two"}

    played(scenario)


@pytest.mark.parametrize("old_one", ["stays", "is removed"])
def test_labels_outlive_the_replacement_and_so_do_versions_if_they_can_be_copied(
    old_one: str, tmp_path: Path
) -> None:
    write(tmp_path / "1", a="one")
    write(tmp_path / "2", a="two")
    point(tmp_path / "current", "1")

    async def scenario() -> None:
        process = Process(tmp_path / "current")
        version = await process.files.upload("a.md", b"one")
        await process.look()
        move = LabelMove("a.md", "production", (), shares_of([version]), NOON, "ada")
        assert await process.index.move_label(move, Labels())
        point(tmp_path / "current", "2")
        if old_one == "is removed":
            shutil.rmtree(tmp_path / "1")
        assert await process.look() == {"a.md": "two"}
        assert (
            await process.text("a.md", label="production")
            == await process.text("a.md", version=version)
            == "one"
        )
        again = Process(tmp_path / "current")
        await again.look()
        if old_one == "stays":
            assert await again.text("a.md", label="production") == "one"

    played(scenario)


def test_a_configmap_is_served_with_its_nested_paths_and_its_edits(tmp_path: Path) -> None:
    for number, text in ((1, "one"), (2, "two")):
        write(tmp_path / f"..{number}", a=text)
        write(tmp_path / f"..{number}" / "support", reply=f"reply {text}")
    point(tmp_path / "..data", "..1")
    (tmp_path / "a.md").symlink_to("..data/a.md")
    (tmp_path / "support").symlink_to("..data/support")

    async def scenario() -> None:
        process = Process(tmp_path)
        assert await process.look() == {"a.md": "one", "support/reply.md": "reply one"}
        point(tmp_path / "..data", "..2")
        shutil.rmtree(tmp_path / "..1")
        assert await process.look() == {"a.md": "two", "support/reply.md": "reply two"}
        shutil.rmtree(tmp_path / "..2")
        assert await process.look() == {"a.md": "two", "support/reply.md": "reply two"}, "links to nowhere"
        (tmp_path / "support").unlink()
        write(tmp_path / "..2", a="three")
        assert await process.look() == {"a.md": "three"}

    played(scenario)


def removed(folder: Path) -> None:
    folder.rename(folder.with_name("away"))


def emptied(folder: Path) -> None:
    for file in folder.glob("*.md"):
        file.unlink()


def replaced_by_an_empty_one(folder: Path) -> None:
    folder.rename(folder.with_name("away"))
    folder.mkdir()


def replaced_by_a_file(folder: Path) -> None:
    folder.rename(folder.with_name("away"))
    folder.write_text("a file")


def replaced_by_a_loop(folder: Path) -> None:
    folder.rename(folder.with_name("away"))
    folder.symlink_to(folder)


GOES_AWAY = [removed, emptied, replaced_by_an_empty_one, replaced_by_a_file, replaced_by_a_loop]


@pytest.mark.parametrize("go_away", GOES_AWAY)
def test_a_folder_that_goes_away_is_an_outage_until_it_is_back(
    go_away: Callable[[Path], None], tmp_path: Path
) -> None:
    root = write(tmp_path / "prompts", a="one", b="two", _tone="kind")

    async def scenario() -> None:
        process = Process(root)
        served = await process.look()
        assert served == {"a.md": "one", "b.md": "two"}
        await process.watch.check()
        go_away(root)
        for _ in range(3):
            assert await process.look() == served
        assert len(process.told(AWAY)) == 1, "it is told once"
        assert process.told(AWAY)[0]["reason"]
        assert process.observer.counts == [{"PromptFolderOutages": 1}]
        assert not process.watch.available
        with pytest.raises(StoreUnavailable):
            await process.watch.check()
        if root.is_symlink() or root.is_file():
            root.unlink()
        write(root, c="three")
        assert await process.look() == {"c.md": "three"}, "what is missing now was deleted"
        assert len(process.told(BACK)) == 1
        await process.watch.check()

    played(scenario)


def test_one_file_that_is_deleted_is_deleted(tmp_path: Path) -> None:
    root = write(tmp_path / "prompts", a="one", b="two")

    async def scenario() -> None:
        process = Process(root)
        await process.look()
        (root / "a.md").unlink()
        assert await process.look() == {"b.md": "two"}
        (root / "b.md").unlink()
        assert await process.look() == {}, "the only one, and the folder still stands"
        assert not process.told(AWAY)

    played(scenario)


def test_a_version_that_is_not_current_is_unavailable_and_not_unknown_while_the_folder_is_away(
    tmp_path: Path,
) -> None:
    root = write(tmp_path / "prompts", a="one")

    async def scenario() -> None:
        process = Process(root)
        await process.look()
        removed(root)
        with pytest.raises(StoreUnavailable):
            await process.files.read("a.md", "0123456789abcdef")
        with pytest.raises(StoreUnavailable):
            await process.files.newest("a.md", 100)
        (root.with_name("away")).rename(root)
        with pytest.raises(PromptNotFound):
            await process.files.read("a.md", "0123456789abcdef")

    played(scenario)


def test_a_folder_that_does_not_answer_is_told_of_while_it_is_waited_for(tmp_path: Path) -> None:
    root = write(tmp_path / "prompts", a="one")

    async def scenario() -> None:
        process = Process(root, silent_s=0)
        assert await process.look() == {"a.md": "one"}
        assert [facts["reason"] for facts in process.told(AWAY)] == ["it does not answer"]
        assert len(process.told(BACK)) == 1

    played(scenario)


def test_the_first_look_may_take_any_time_as_it_reads_every_file(tmp_path: Path) -> None:
    root = write(tmp_path / "prompts", a="one")

    async def scenario() -> None:
        process = Process(root, silent_s=0)
        await process.watch.look(first=True)
        assert process.told(AWAY) == []
        assert await process.text("a.md") == "one"

    played(scenario)


def test_a_file_that_cannot_be_read_keeps_its_last_good_text_and_stops_no_other(tmp_path: Path) -> None:
    root = write(tmp_path / "prompts", a="{% include '_tone.md' %}", b="two", _tone="kind")

    async def scenario() -> None:
        process = Process(root)
        assert await process.look() == {"a.md": "kind", "b.md": "two"}
        for name in ("_tone.md", "b.md"):
            (root / name).unlink()
            (root / name).symlink_to("nowhere.md")
        (root / "loop.md").symlink_to("loop.md")
        write(root, c="three")
        for _ in range(2):
            assert await process.look() == {"a.md": "kind", "b.md": "two", "c.md": "three"}
        assert sorted(str(facts["prompt"]) for facts in process.told(NOT_READ)) == [
            "_tone.md",
            "b.md",
            "loop.md",
        ]
        write(root, **{"nowhere": "found"})
        assert (await process.look())["a.md"] == "found"

    played(scenario)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_or_folder_without_permission_is_unreadable_and_not_deleted(tmp_path: Path) -> None:
    root = write(tmp_path / "prompts", a="one", b="two")
    write(root / "deep", c="three")

    async def scenario() -> None:
        process = Process(root)
        served = await process.look()
        write(root, a="changed")
        (root / "a.md").chmod(0)
        (root / "deep").chmod(0)
        assert await process.look() == served
        root.chmod(0)
        assert await process.look() == served
        assert len(process.told(AWAY)) == 1
        for path in (root, root / "deep", root / "a.md"):
            path.chmod(0o755)
        assert (await process.look())["a.md"] == "changed"

    played(scenario)


def test_what_is_no_regular_file_is_not_opened(tmp_path: Path) -> None:
    root = write(tmp_path / "prompts", a="one", pipe="was a file")
    listener = socket.socket(socket.AF_UNIX)

    async def scenario() -> None:
        process = Process(root)
        await process.look()
        (root / "pipe.md").unlink()
        os.mkfifo(root / "pipe.md")
        os.mkfifo(root / "_partial.md")
        listener.bind(str(root / "socket.md"))
        (root / "null.md").symlink_to("/dev/null")
        (root / "folder.md").mkdir()
        write(root / "folder.md", b="two")
        assert await process.look() == {"a.md": "one", "folder.md/b.md": "two"}
        assert await process.files.newest("pipe.md", 100) is None
        told = {str(facts["prompt"]): str(facts["reason"]) for facts in process.told(NOT_READ)}
        assert told.keys() == {"pipe.md", "_partial.md", "socket.md", "null.md"}
        assert "leads out" in told["null.md"]

    with listener:
        played(scenario)


def test_a_file_becomes_a_folder(tmp_path: Path) -> None:
    root = write(tmp_path / "prompts", a="one", b="two")

    async def scenario() -> None:
        process = Process(root)
        await process.look()
        (root / "a.md").unlink()
        (root / "a.md").mkdir()
        assert await process.look() == {"b.md": "two"}

    played(scenario)


def test_a_huge_file_is_broken_and_not_read(tmp_path: Path) -> None:
    root = write(tmp_path / "prompts", a="one")

    async def scenario() -> None:
        process = Process(root)
        with (root / "huge.md").open("wb") as file:
            file.truncate(1 << 40)  # no machine could read it
        await process.watch.look()
        (entry,) = await process.index.find("huge.md")
        assert (entry.state, entry.size_bytes) == ("broken", 1 << 40)
        assert await process.text("a.md") == "one"
        await process.watch.look()
        assert not [facts for facts in process.told("prompt indexed") if facts["prompt"] == "huge.md"][1:]

    played(scenario)


def test_links_lead_into_the_folder_and_never_round_in_circles(tmp_path: Path) -> None:
    root = write(tmp_path / "prompts", a="one")
    write(root / "v2", b="two")
    write(tmp_path / "shared", secret="secret")
    (root / "latest").symlink_to("v2")
    (root / "alias.md").symlink_to("v2/b.md")
    (root / "up").symlink_to(".")
    (root / "v2" / "top").symlink_to("..")
    (root / "out").symlink_to("../shared")
    (root / "out.md").symlink_to(tmp_path / "shared" / "secret.md")

    async def scenario() -> None:
        process = Process(root)
        assert await process.look() == {
            "a.md": "one",
            "alias.md": "two",
            "latest/b.md": "two",
            "v2/b.md": "two",
        }
        assert await process.files.newest("out/secret.md", 100) is None
        assert [facts["prompt"] for facts in process.told(NOT_READ)] == ["out.md"]

    played(scenario)


def test_links_between_folders_do_not_multiply(tmp_path: Path) -> None:
    for number in range(8):
        folder = write(tmp_path / f"d{number}", a="text")
        for other in range(8):
            (folder / f"to{other}").symlink_to(f"../d{other}")
    assert len(look_at(tmp_path).files) == 8 + 8 * 7


def test_names_that_are_not_utf_8_and_hidden_ones_are_ignored(tmp_path: Path) -> None:
    write(tmp_path, a="one")
    for name in (b"caf\xe9.md", b".hidden.md", b"a.md~", b".a.md.swp", b"4913", b"#a.md#", b"B.MD"):
        (tmp_path / os.fsdecode(name)).write_text("no prompt")
    write(tmp_path / "..data", b="two")

    async def scenario() -> None:
        assert await Process(tmp_path).look() == {"a.md": "one"}

    played(scenario)


def test_the_state_of_a_process_that_died_while_writing_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    async def scenario() -> None:
        first = Process(tmp_path)
        await first.files.upload("a.md", b"one")
        await first.look()
        for name in ("seen.jsonl", "revisions.jsonl"):
            with (tmp_path / ".llm-gateway/versions/a.md" / name).open("a") as file:
                file.write('{"version": "abc')
        (tmp_path / "a.md").write_text("{% if %}")
        assert await Process(tmp_path).look() == {"a.md": "one"}

    played(scenario)


def labelled(version: str) -> LabelMove:
    return LabelMove("a.md", "live", (), shares_of([version]), NOON, "ada")


def damaged(file: Path, how: object) -> None:
    """Put something in a file's place that is none of ours."""
    if file.is_dir():
        shutil.rmtree(file)
    file.unlink(missing_ok=True)
    file.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(how, bytes):
        file.write_bytes(how)
    elif how == "pipe":
        os.mkfifo(file)
    elif how == "folder":
        file.mkdir()
    else:
        file.symlink_to(file.name)


DAMAGES = [
    b"",
    b'{"labels": {"a.m',
    b"\xff",
    b"[]",
    b'[]\nnull\n{"version": 5, "modified": "x"}\n',
    "pipe",
    "folder",
    "loop",
]


@pytest.mark.parametrize("how", DAMAGES)
def test_the_last_good_labels_stay_while_their_file_is_damaged(how: object, tmp_path: Path) -> None:
    async def scenario() -> None:
        process = Process(write(tmp_path, a="one"))
        await process.look()
        version = (await process.files.current())["a.md"]
        assert await process.index.move_label(labelled(version), Labels())
        file = tmp_path / ".llm-gateway" / "labels.json"
        good = file.read_bytes()
        damaged(file, how)
        for _ in range(2):
            assert await process.index.generation() > 0
            assert (await process.look()) == {"a.md": "one"}
            assert await process.text("a.md", label="live") == "one"
        (told,) = process.told(NOT_READ)
        assert told["prompt"] == ".llm-gateway/labels.json"
        seen = await process.index.labels("a.md")
        with pytest.raises(StoreUnavailable, match="restore it or delete it"):
            await process.index.move_label(labelled(version), seen)
        damaged(file, good)
        await process.index.generation()
        await process.look()
        assert [facts["prompt"] for facts in process.told("prompt file no longer at fault")] == [
            told["prompt"]
        ]

    played(scenario)


@pytest.mark.parametrize("how", DAMAGES)
@pytest.mark.parametrize("name", ["seen.jsonl", "revisions.jsonl"])
def test_a_damaged_history_stops_no_prompt(name: str, how: object, tmp_path: Path) -> None:
    async def scenario() -> None:
        damaged(write(tmp_path, a="one") / ".llm-gateway" / "versions" / "a.md" / name, how)
        process = Process(tmp_path)
        assert await process.look() == {"a.md": "one"}
        write(tmp_path, a="two")
        assert await process.look() == {"a.md": "two"}
        write(tmp_path, a="{{")
        assert await process.look() == {"a.md": "two"}
        assert not process.told(AWAY)

    played(scenario)


def test_half_a_line_of_a_process_that_died_takes_no_later_line_with_it(tmp_path: Path) -> None:
    async def scenario() -> None:
        history = write(tmp_path, a="one") / ".llm-gateway" / "versions" / "a.md" / "seen.jsonl"
        damaged(history, b'{"version": "0123", "modif')
        await Process(tmp_path).look()
        assert len(history.read_bytes().splitlines()) == 2
        (tmp_path / "a.md").write_text("{{")
        assert await Process(tmp_path).look() == {"a.md": "one"}

    played(scenario)


def test_a_pipe_in_place_of_the_lock_or_a_body_stops_nothing(tmp_path: Path) -> None:
    async def scenario() -> None:
        process = Process(write(tmp_path, a="one"))
        await process.look()
        version = (await process.files.current())["a.md"]
        write(tmp_path, a="two")
        await process.look()
        state = tmp_path / ".llm-gateway"
        damaged(state / "lock", "pipe")
        assert await process.index.move_label(labelled(version), Labels())
        damaged(state / "versions" / "a.md" / version, "pipe")
        with pytest.raises(PromptNotFound):
            await Process(tmp_path).files.read("a.md", version)

    played(scenario)


@pytest.mark.parametrize("seconds", [-5_000_000_000, 250_000_000_000])
def test_a_file_of_any_time_is_served(seconds: int, tmp_path: Path) -> None:
    async def scenario() -> None:
        os.utime(write(tmp_path, a="one") / "a.md", (seconds, seconds))
        assert await Process(tmp_path).look() == {"a.md": "one"}

    played(scenario)


def test_a_state_that_may_not_be_looked_at_is_not_carried_over_and_no_outage(tmp_path: Path) -> None:
    prompt_archive.carry_over(f"/{'x' * 300}", str(tmp_path))
    assert not list(tmp_path.iterdir())
