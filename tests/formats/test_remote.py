"""URLs lie where fsspec finds them, keys in them are refused and shown nowhere, and files are replaced whole."""

from __future__ import annotations

import sys
from pathlib import Path

import fsspec
import pytest

from safetyqc.errors import InputError, OutputError, RunError, UserError
from safetyqc.formats.opened import name_of
from safetyqc.formats.readers import read_conversations
from safetyqc.formats.remote import Remote, is_url, place_of, state_of
from safetyqc.formats.sources import files_of
from safetyqc.formats.writing import replacing, write_text
from safetyqc.store import Store


def test_what_is_a_path_and_what_is_a_url() -> None:
    assert place_of("data/a.jsonl") == Path("data/a.jsonl")
    assert place_of("C:/data") == Path("C:/data")
    assert place_of("odd:name.jsonl") == Path("odd:name.jsonl")
    assert place_of("file:///data/a.jsonl") == place_of(Path("file:///data/a.jsonl")) == Path("/data/a.jsonl")
    through = place_of(Path("memory://bucket/a.jsonl"))  # pathlib takes one of its slashes
    assert isinstance(through, Remote)
    assert through.url == name_of("memory://bucket/a.jsonl")
    assert (is_url("memory:/bucket"), is_url("file:///x"), is_url("x")) == (True, False, False)


@pytest.mark.parametrize(
    "url",
    [
        "s3://AKIA123:sEcReT@bucket/data",
        "s3://sEcReT@bucket/data",
        "https://host/data.jsonl?X-Amz-Signature=sEcReT",
        "gs://bucket?token=sEcReT",
        "abfs://box:sEcReT@account.dfs.core.windows.net/data",
        "S3:/sEcReT@bucket/data",
    ],
)
def test_a_key_in_a_url_is_refused_and_not_shown(url: str) -> None:
    with pytest.raises(UserError) as told:
        place_of(url)
    assert "sEcReT" not in str(told.value)
    assert told.value.fix


@pytest.mark.parametrize(("url", "fix"), [("s3://bucket/data", "pip install s3fs"), ("nope://x/y", "s3://BUCKET")])
def test_a_store_that_cannot_be_reached_says_what_would(url: str, fix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(UserError) as told:
        place_of(url)
    assert fix in (told.value.fix or "")


def test_without_fsspec_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fsspec.core", None)
    with pytest.raises(UserError) as told:
        place_of("memory://x/y")
    assert "safetyqc[remote]" in (told.value.fix or "")


def test_a_file_is_replaced_whole_or_stays_as_it_was() -> None:
    store = fsspec.filesystem("memory")
    url = "memory://box/deep/a.txt"
    assert state_of(url) is None
    write_text(url, "first")
    before = state_of(url)
    with pytest.raises(KeyError), replacing(url) as file:  # noqa: PT012
        file.write(b"half of it")
        raise KeyError
    assert (store.cat("/box/deep/a.txt"), state_of(url)) == (b"first", before)
    with pytest.raises(OutputError, match="there already"):
        write_text(url, "second", force=False)
    write_text(url, "second")
    assert (store.cat("/box/deep/a.txt"), store.find("/box")) == (b"second", ["/box/deep/a.txt"])
    assert state_of(url) != before
    store.rm("/box", recursive=True)


def test_the_files_of_a_folder_are_those_of_the_same_folder_here(tmp_path: Path) -> None:
    names = ["b.jsonl", "a/z.jsonl", "a/b.parquet", "a.jsonl", "_tmp/x.jsonl", "a/.hid.jsonl", "README.md", "c.json.gz"]
    store = fsspec.filesystem("memory")
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("{}")
        store.pipe(f"/set/{name}", b"{}")
    here = [str(Path(file).relative_to(tmp_path)) for file in files_of(tmp_path)]
    there = [file.removeprefix(f"{name_of('memory://set')}/") for file in files_of("memory://set")]
    assert here == there
    assert len(here) == 5
    store.rm("/set", recursive=True)


def test_a_run_is_refused_in_a_url() -> None:
    with pytest.raises(RunError, match="on this machine"):
        Store.create(Path("s3://key:secret@bucket/run"))  # whatever is installed, and without its key


def test_a_store_that_lets_nobody_in_is_no_damaged_file(monkeypatch: pytest.MonkeyPatch) -> None:
    class NoCredentialsError(Exception):
        """As s3fs passes it on."""

    def refuse(*_: object, **__: object) -> None:
        raise NoCredentialsError("Unable to locate credentials")

    monkeypatch.setattr(type(fsspec.filesystem("memory")), "isdir", refuse)
    with pytest.raises(InputError, match=r"cannot be read: .*Unable to locate credentials") as told:
        read_conversations("memory://box/data")
    assert "package find your keys" in (told.value.fix or "")
