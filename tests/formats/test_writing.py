"""Files are written whole or not at all."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from safetyqc.errors import OutputError
from safetyqc.formats import writing
from safetyqc.formats.writing import replacing, write_lines, write_text


def everything_in(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_lines_are_utf8_with_a_newline_each(tmp_path: Path) -> None:
    assert write_lines(tmp_path / "a.jsonl", iter(["one", "二 🙂"])) == 2
    assert (tmp_path / "a.jsonl").read_bytes() == "one\n二 🙂\n".encode()


def test_folders_on_the_way_are_made(tmp_path: Path) -> None:
    write_text(tmp_path / "deep" / "er" / "a.txt", "x")
    assert (tmp_path / "deep" / "er" / "a.txt").read_text() == "x"


def test_line_ends_of_a_text_are_not_touched(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "a\r\nb\n")
    assert (tmp_path / "a.txt").read_bytes() == b"a\r\nb\n"


def write_and_raise(path: Path, problem: BaseException) -> None:
    with replacing(path) as file:
        file.write(b"half of the new")
        raise problem


@pytest.mark.parametrize("problem", [ValueError("bug"), KeyboardInterrupt()])
def test_a_block_that_fails_leaves_the_old_file_and_no_litter(tmp_path: Path, problem: BaseException) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(type(problem)):
        write_and_raise(path, problem)
    assert path.read_text() == "old"
    assert everything_in(tmp_path) == ["a.txt"]


def test_a_reader_sees_the_old_file_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with replacing(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_text() == "old"
    assert path.read_text() == "new"


FULL = r"a\.txt: the disk is full; nothing was changed\n  fix: free"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_told_and_changes_nothing(tmp_path: Path, number: int) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(OutputError, match=FULL):
        write_and_raise(path, OSError(number, "No space left on device"))
    assert path.read_text() == "old"
    assert everything_in(tmp_path) == ["a.txt"]


def test_a_disk_that_is_full_only_when_flushed_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    path = tmp_path / "a.txt"
    path.write_text("old")
    monkeypatch.setattr(writing.os, "fsync", full)
    with pytest.raises(OutputError, match=FULL):
        write_text(path, "new")
    assert path.read_text() == "old"
    assert everything_in(tmp_path) == ["a.txt"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_a_really_full_device_is_told() -> None:
    with pytest.raises(OutputError, match="disk is full"):
        write_text("/dev/full", "x" * 100_000)


def test_an_error_of_what_the_block_reads_is_not_blamed_on_the_target(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="absent"), replacing(tmp_path / "a.txt") as file:
        file.write((tmp_path / "absent").read_bytes())
    assert everything_in(tmp_path) == []


def test_an_existing_file_is_kept_unless_forced(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(OutputError, match=r"is there already\n  fix: .*--force"):
        write_text(path, "new", force=False)
    assert path.read_text() == "old"
    write_text(path, "new", force=True)
    assert path.read_text() == "new"


def test_a_dangling_link_counts_as_existing_without_force(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "gone")
    with pytest.raises(OutputError, match="is there already"):
        write_text(tmp_path / "link", "new", force=False)


def test_a_link_that_leads_back_to_itself_is_refused(tmp_path: Path) -> None:
    (tmp_path / "one").symlink_to(tmp_path / "other")
    (tmp_path / "other").symlink_to(tmp_path / "one")
    for path in (tmp_path / "one", tmp_path / "one" / "below"):
        with pytest.raises(OutputError, match="leads back to itself"):
            write_text(path, "new")
    assert everything_in(tmp_path) == ["one", "other"]


def test_a_link_stays_and_its_target_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "real").write_text("old")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    write_text(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_text() == "new"


def test_permissions_of_a_replaced_file_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    path.chmod(0o640)
    write_text(path, "new")
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_a_new_file_gets_ordinary_permissions(tmp_path: Path) -> None:
    (tmp_path / "ordinary").write_text("x")
    write_text(tmp_path / "a.txt", "x")
    assert (tmp_path / "a.txt").stat().st_mode == (tmp_path / "ordinary").stat().st_mode


def test_a_pipe_is_written_directly(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        write_text(pipe, "through")
        assert os.read(reader, 100) == b"through"
    finally:
        os.close(reader)
    assert everything_in(tmp_path) == ["pipe"]


def test_a_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="is a folder"):
        write_text(tmp_path, "x")


def test_a_file_as_part_of_the_path_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="part of the path is a file"):
        write_text(tmp_path / "file" / "a.txt", "x")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_told(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(OutputError, match="cannot be written: Permission denied"):
        write_text(tmp_path / "a.txt", "x")
