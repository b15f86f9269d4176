"""Files that are written whole or not at all: in which order, what is said if they cannot be; and read."""

from __future__ import annotations

import errno
import os
import resource
import time
from pathlib import Path

import pytest

from molere_cli.foundation.errors import WriteError
from molere_cli.foundation.files import (
    digest,
    digest_of_file,
    digest_of_values,
    hidden_beside,
    make_folder,
    new_folder,
    parse_json,
    read_text,
    replacing,
    sweep,
    write_text,
    writing,
)


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# --- written


def test_a_file_is_on_the_disk_before_it_has_its_name_and_the_name_after(tmp_path, monkeypatch):
    path, events = tmp_path / "a.txt", []

    def fsync(descriptor):
        place = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        events.append("folder" if place == tmp_path else f"file, {'named' if path.exists() else 'unnamed'}")

    monkeypatch.setattr(os, "fsync", fsync)
    write_text(path, "x")
    assert events == ["file, unnamed", "folder"]
    assert path.read_text() == "x"


@pytest.mark.parametrize(
    ("number", "sentence"),
    [
        (errno.ENOSPC, "No space left on device; make room, and try again"),
        (errno.EIO, "Input/output error"),
        (errno.EACCES, "Permission denied; choose a place that you may write to"),
        (errno.EROFS, "Read-only file system; choose a place that you may write to"),
    ],
)
@pytest.mark.parametrize("operation", ["fsync", "replace"])
def test_what_the_system_refuses_is_a_sentence_and_the_old_file_stays(
    tmp_path, monkeypatch, number, sentence, operation
):
    path = tmp_path / "a.txt"
    write_text(path, "old")

    def refuse(*_arguments):
        raise OSError(number, "whatever")

    monkeypatch.setattr(os, operation, refuse)
    with pytest.raises(WriteError) as caught:
        write_text(path, "new")
    assert str(caught.value) == f"cannot write {path}: {sentence}"
    assert path.read_text() == "old"
    assert names_in(tmp_path) == ["a.txt"]


def test_a_file_beyond_the_limit_on_sizes_is_a_sentence_and_the_old_file_stays(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, limits[1]))
    try:
        with pytest.raises(WriteError, match=r"File too large; raise the limit .* \(ulimit -f\)$"):
            write_text(path, "x" * (1 << 17))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_text() == "old"
    assert names_in(tmp_path) == ["a.txt"]


def test_a_name_that_is_too_long_is_a_sentence_and_one_that_just_fits_is_none(tmp_path):
    with pytest.raises(WriteError, match=r"File name too long; choose a shorter name$"):
        write_text(tmp_path / ("x" * 256), "")
    write_text(tmp_path / ("x" * 255), "")
    assert names_in(tmp_path) == ["x" * 255]


def test_a_folder_whose_name_a_file_has_is_a_sentence(tmp_path):
    (tmp_path / "a").touch()
    with pytest.raises(WriteError, match=r"^cannot make the folder .*a: there is a file of that name$"):
        make_folder(tmp_path / "a")
    with pytest.raises(WriteError, match="Not a directory"):
        write_text(tmp_path / "a" / "b" / "c.txt", "")


def test_a_name_that_is_taken_is_no_refusal(tmp_path):
    with pytest.raises(FileExistsError), writing(tmp_path):
        raise FileExistsError(errno.EEXIST, "taken")


def test_an_error_of_another_kind_goes_through_and_leaves_nothing(tmp_path):
    with pytest.raises(ZeroDivisionError), replacing(tmp_path / "a.txt") as temporary:
        temporary.write_text("half")
        raise ZeroDivisionError
    assert names_in(tmp_path) == []


def test_what_killed_processes_left_is_swept_and_nothing_else(tmp_path):
    old, young = hidden_beside(tmp_path / "a.json"), hidden_beside(tmp_path / "b.json")
    others = [tmp_path / name for name in (".hidden.tmp", "a.json", ".a.json.0123456.tmp", ".config")]
    for path in (old, young, *others):
        path.touch()
    hour_ago = time.time() - 3700
    for path in (old, *others):
        os.utime(path, (hour_ago, hour_ago))
    sweep(tmp_path)
    assert names_in(tmp_path) == sorted(path.name for path in (young, *others))
    sweep(tmp_path / "nowhere")


# --- read


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[" * 100_000, "it is nested too deeply"),
        ('{"a": 1, "b": {"c": 0, "c": 1}}', "the key 'c' is there twice"),
        ("[1e999]", "'1e999' is larger than any float64"),
        ("[NaN]", "NaN is no number in JSON"),
        ("[-Infinity]", "-Infinity is no number in JSON"),
        ("9" * 5000, "Exceeds the limit"),
        ("{", "Expecting property name"),
    ],
)
def test_json_that_others_would_read_otherwise_is_refused(text, reason):
    with pytest.raises(ValueError, match=f"^{reason}"):
        parse_json(text)


def test_a_file_that_is_too_large_is_refused(tmp_path):
    path = tmp_path / "a.json"
    path.write_text('"' + (1 << 20) * "x" + '"')
    assert len(parse_json(read_text(path, limit=1 << 24))) == 1 << 20
    with pytest.raises(ValueError, match=r"^it has more than 1 MiB$"):
        read_text(path, limit=1 << 20)


def test_a_digest_is_that_of_the_bytes_and_of_values_in_any_order(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert digest_of_file(tmp_path / "a") == digest(b"abc") != digest(b"abd")
    assert digest_of_values({"a": 1, "b": [2]}) == digest_of_values({"b": [2], "a": 1})


def test_a_new_folder_is_there_whole_or_not_at_all(tmp_path):
    path = tmp_path / "deep" / "made"
    with new_folder(path) as hidden:
        (hidden / "a").write_text("a")
        assert not path.exists()
    assert [each.name for each in path.iterdir()] == ["a"]
    with pytest.raises(RuntimeError), new_folder(tmp_path / "deep" / "other") as hidden:
        (hidden / "a").write_text("a")
        raise RuntimeError
    with pytest.raises(FileExistsError), new_folder(path) as hidden:
        (hidden / "b").write_text("b")
    assert [each.name for each in path.parent.iterdir()] == ["made"]
    assert [each.name for each in path.iterdir()] == ["a"]
