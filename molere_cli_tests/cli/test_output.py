"""Text of strangers in what commands print, narrow readers, and readers who have gone."""

from __future__ import annotations

import csv
import io
import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from molere_cli.commands import app as entry
from molere_cli.commands import console, output
from molere_cli.commands.console import progress_display
from molere_cli.foundation.plain_text import harmless, in_encoding
from molere_cli.foundation.text_table import table_text
from molere_cli.report import compare_runs, find_runs, render
from molere_cli_tests.fake_runs import erm_run, lrw_run

# As they stand on a disk, and as they are shown.
NAMES = {
    b"dog [small]": "dog [small]",
    b"yes[": "yes[",
    b"\x1b[31mred\x07": r"\x1b[31mred\x07",
    b"new\nline": r"new\nline",
    b"$\\frac{x$": r"$\frac{x$",
    b"quo\"te's": "quo\"te's",
    b"caf\xe9": r"caf\xe9",
    b"wide " + 240 * b"w": "wide " + 240 * "w",
    "猫, |é".encode(): "猫, |é",
    "back\u202ewards".encode(): r"back\u202ewards",
}
LINE = "--backbone small_cnn --image-size 8 --epochs 1 --batch-size 16 --workers 0 --augment none"
ENCODINGS = ["cp1252", "latin-1", "ascii", "cp437"]


@pytest.fixture(scope="module")
def strangers(tmp_path_factory) -> Path:
    """A folder with a dataset `d [b]` whose classes have the names above."""
    root = tmp_path_factory.mktemp("strangers")
    for part, count in (("train", 4), ("test", 2)):
        for number, name in enumerate(NAMES):
            folder = root / "d [b]" / part / os.fsdecode(name)
            folder.mkdir(parents=True)
            for index in range(count):
                shade = np.full((8, 8, 3), 20 * number + index, dtype=np.uint8)
                Image.fromarray(shade).save(folder / f"{index}.png")
    return root


@pytest.fixture
def trained(strangers, monkeypatch, molere) -> Path:
    monkeypatch.chdir(strangers)
    if not Path("runs").exists():
        done = molere(f"train --method erm --dataset 'folder:d [b]' {LINE}")
        assert done.code == 0, done.err
    return strangers


def first_column(shown: str) -> str:
    """What stands in the first column of a table's rows, without spaces and breaks."""
    cells = (line.split("│")[1] for line in shown.splitlines() if line.startswith("│"))
    return "".join(cells).replace(" ", "")


def test_names_of_strangers_are_shown_as_they_are_and_steer_nothing(trained, molere, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    for done in (molere("eval"), molere(f"split --strategy random --dataset 'folder:d [b]' {LINE}")):
        assert done.code == 0, done.err
        shown = first_column(done.out)
        assert [name for name in NAMES.values() if name.replace(" ", "") not in shown] == []
        assert not [character for character in done.out + done.err if character in "\x1b\x07\u202e\r"]
        assert max(map(len, done.out.splitlines()[:-1])) <= 60


def test_json_keeps_the_names_themselves(trained, molere):
    [by_class] = json.loads(molere("eval --json").out)["accuracy_by_class"].values()
    assert {"\x1b[31mred\x07", "new\nline", "dog [small]", "猫, |é"} <= by_class.keys()


def test_a_mistake_shows_names_harmlessly(trained, molere):
    for line in ("eval --on 'x\x1b[31m[b]'", "train --nope\x1b[31m", "compare 'no\nrun\x07'", "\x1b[31m"):
        done = molere(line)
        assert done.code in (1, 2)
        assert "\x1b" not in done.err and "\x07" not in done.err


@pytest.mark.parametrize("text", ["a[b]c[/b]", "[bold]", r"\[x]", 'quo"te', "é猫±", 300 * "x"])
def test_what_steers_nothing_stays_as_it_is(text):
    assert harmless(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b]0;title\x07", r"\x1b]0;title\x07"),
        ("a\r\nb\tc", r"a\r\nb\tc"),
        ("\x9b31m", r"\x9b31m"),
        ("caf\udce9", r"caf\udce9"),
        ("\u2028", r"\u2028"),
    ],
)
def test_what_steers_is_escaped(text, shown):
    assert harmless(text) == shown


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_every_table_is_readable_in_every_encoding(encoding, tmp_path):
    erm_run(tmp_path / "erm", 0.5)
    lrw_run(tmp_path / "hard", 0.6)
    shown = render(compare_runs(find_runs(tmp_path)), width=100, encoding=encoding)
    assert in_encoding(shown, encoding) == shown.encode(encoding, "molere.narrow").decode(encoding)
    table = shown.split("\n\n")[0]
    assert table == table.encode(encoding).decode(encoding)
    assert "LRW-Hard" in table and "+10.00" in table


def test_what_an_encoding_lacks_is_what_is_nearest():
    assert in_encoding("café ± 1 → ¹² 猫", "ascii") == r"cafe +/- 1 -> ^12 \u732b"
    assert in_encoding("café ± ¹²", "latin-1") == "café ± ¹²"


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("line", ["eval", "compare", "plugins datasets", "nosuch-é猫"])
def test_commands_write_in_narrow_encodings(trained, encoding, line, monkeypatch, molere):
    stdout, stderr = (narrow_stream(encoding) for _ in range(2))
    monkeypatch.setattr(sys, "argv", ["molere", *line.split()])
    monkeypatch.setattr(sys, "stdout", stdout)
    monkeypatch.setattr(sys, "stderr", stderr)
    with pytest.raises(SystemExit) as left:
        entry.main()
    assert left.value.code == (2 if line.startswith("nosuch") else 0)
    written = (stdout.buffer.getvalue() + stderr.buffer.getvalue()).decode(encoding)
    assert "yes[" in written or line != "eval"


def narrow_stream(encoding: str) -> io.TextIOWrapper:
    # As the process has it after `ready_streams`, which leaves streams alone that are no file.
    return io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors=output.NARROW)


@pytest.mark.parametrize("width", [20, 40, 60, 80, 200])
def test_no_width_cuts_a_number_or_a_name_off(width):
    numbers = [["cat [x]", "0.1234", "12,345,678.9"], [70 * "n", "-0.5", "1"]]
    shown = table_text("title", ["class", "accuracy", "images"], numbers, width=width)
    for cell in ("0.1234", "12,345,678.9", "accuracy"):
        assert cell in shown
    assert shown.count("n") == 70 or "nn" * 35 in shown
    if width >= 60:
        assert max(map(len, shown.splitlines())) <= width


def test_a_bar_of_60_columns_loses_no_number(monkeypatch):
    written = io.StringIO()
    monkeypatch.setattr(
        console, "stderr", Console(file=written, force_terminal=True, width=60, color_system=None)
    )
    with progress_display(quiet=False) as display:
        display.run_started("LRW-Hard [b] \x1b[31m" + 30 * "x", seed=3, num_epochs=4, path=None)
        display.epoch_ended(
            {
                "epoch": 0,
                "train/loss": 1.25,
                "train/accuracy": 0.5,
                "weights/std": 0.125,
                "test/accuracy": 0.75,
            }
        )
        display.note("of [bold] and \x1b[31m")
        display.run_ended(None)
    shown = written.getvalue()
    assert "[b]" in shown and r"\x1b" in shown and "\x1b[31m" not in shown and "…" not in shown
    assert all(number in shown for number in ("1.250", "50.0", "0.12", "75.0"))
    assert "note: of [bold] and" in shown


@pytest.mark.parametrize("dataset", ["folder:a|b [red]\x1b[31m", 'csv:"q\nr", é.csv', "folder:" + 300 * "w"])
def test_every_format_of_compare_shows_a_strange_dataset(dataset, tmp_path):
    named_runs(tmp_path, dataset)
    comparison = compare_runs(find_runs(tmp_path))
    shown = harmless(dataset)
    assert shown in render(comparison, "table", width=60)
    markdown = render(comparison, "markdown").splitlines()
    assert shown in markdown[0]
    assert {line.replace(r"\|", "").count("|") for line in markdown if line.startswith("|")} == {9}
    assert {row["dataset"] for row in csv.DictReader(render(comparison, "csv").splitlines())} == {shown}
    assert {row["dataset"] for row in json.loads(render(comparison, "json"))} == {dataset}


# --- charts


def named_runs(root: Path, dataset: str) -> None:
    erm_run(root / f"erm{dataset[:1]}", 0.5, config={"dataset": dataset})
    lrw_run(root / f"hard{dataset[:1]}", 0.6, config={"dataset": dataset})


# --- readers who have gone, and disks that are full


def to_full_disk(*, unbuffered: bool) -> io.TextIOWrapper:
    """As the interpreter opens it, with `-u` or PYTHONUNBUFFERED or without."""
    if unbuffered:
        return io.TextIOWrapper(io.FileIO("/dev/full", "w"), encoding="utf-8", write_through=True)
    return open("/dev/full", "w", encoding="utf-8")


def to_reader_who_has_gone() -> io.TextIOWrapper:
    reader, writer = os.pipe()
    os.close(reader)
    return os.fdopen(writer, "w", encoding="utf-8")


LINES = ["plugins methods", "--version", "compare --help", "eval", "compare", "eval --json"]


@pytest.mark.parametrize("line", LINES)
@pytest.mark.parametrize("unbuffered", [False, True])
def test_a_full_disk_is_one_sentence(trained, line, unbuffered, monkeypatch, capsys):
    assert ended(line, to_full_disk(unbuffered=unbuffered), monkeypatch) == 1
    assert capsys.readouterr().err.splitlines()[-1] == (
        "molere: cannot write to stdout: No space left on device"
    )


@pytest.mark.parametrize("line", LINES)
def test_a_reader_who_has_gone_ends_the_command_in_silence(trained, line, monkeypatch, capsys):
    assert ended(line, to_reader_who_has_gone(), monkeypatch) == 1
    assert "Traceback" not in capsys.readouterr().err


def ended(line: str, stdout: io.TextIOWrapper, monkeypatch) -> int | str | None:
    """The exit code of `molere LINE` that writes to `stdout`."""
    monkeypatch.setattr(sys, "argv", ["molere", *line.split()])
    monkeypatch.setattr(sys, "stdout", stdout)
    with stdout, pytest.raises(SystemExit) as left:
        entry.main()
    return left.value.code


def test_a_process_without_standard_streams_says_nothing_and_works(trained, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["molere", "compare"])
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    with pytest.raises(SystemExit) as left:
        entry.main()
    assert left.value.code == 0
    sys.stdout.close()
    sys.stderr.close()


def test_an_error_that_is_not_of_a_stream_keeps_its_traceback():
    with pytest.raises(OSError, match="of a disk"), output.written_out():
        raise OSError(28, "of a disk")
