"""Files of results: a finished cell is never lost, whoever is killed and whoever else writes."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks" / "reproduce"
StartWriter = Callable[[Path, range], "subprocess.Popen[str]"]
WRITER = """
import sys
from pathlib import Path
sys.path.insert(0, {folder!r})
import lines
for seed in {seeds}:
    lines.write_line(Path({path!r}), {{"cell": f"e/v/r/s{{seed}}", "padding": "x" * 20_000}})
    print(seed, flush=True)
"""


@pytest.fixture(scope="module")
def lines() -> ModuleType:
    spec = importlib.util.spec_from_file_location("lines", FOLDER / "lines.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def line(name: str, **more: Any) -> dict[str, Any]:
    return {"cell": name, **more}


def write(path: Path, lines: Iterable[dict[str, Any]], end: str = "\n") -> None:
    path.write_text("\n".join(json.dumps(each) for each in lines) + end, encoding="utf-8")


@pytest.fixture
def start_writer() -> Iterator[StartWriter]:
    """Starts a process that writes the lines of some seeds, and prints each once its line is written."""
    with ExitStack() as stack:

        def start(path: Path, seeds: range) -> subprocess.Popen[str]:
            code = WRITER.format(folder=str(FOLDER), path=str(path), seeds=seeds)
            command = [sys.executable, "-c", code]
            process = stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
            stack.callback(process.kill)
            return process

        yield start


def test_a_new_line_goes_to_its_place_and_the_others_stay(lines: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "results" / "e.jsonl"
    assert lines.read_lines(path) == {}
    for name in ("e/v/r/s10", "e/v/r/s2", "e/a/z/s3", "e/v/q/s0"):
        lines.write_line(path, line(name, metrics={"b": 1, "a": 0.1}))
    found = lines.read_lines(path)
    assert list(found) == ["e/a/z/s3", "e/v/q/s0", "e/v/r/s2", "e/v/r/s10"]
    assert path.read_text().splitlines()[3] == '{"cell":"e/v/r/s10","metrics":{"b":1,"a":0.1}}'
    assert all(each["metrics"] == {"b": 1, "a": 0.1} for each in found.values())


def test_a_rerun_replaces_the_line_of_its_cell(lines: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "e.jsonl"
    for seconds in (1, 2):
        for seed in (0, 1):
            lines.write_line(path, line(f"e/v/r/s{seed}", seconds=seconds + seed))
    lines.write_line(path, line("e/v/r/s0", seconds=9))
    assert [each["seconds"] for each in lines.read_lines(path).values()] == [9, 3]
    assert len(path.read_text().splitlines()) == 2


def test_what_has_been_read_is_kept_until_the_file_changes(lines: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "e.jsonl"
    write(path, [line("e/v/r/s0", seconds=1)])
    first = lines.read_lines(path)
    assert lines.read_lines(path) is first
    write(path, [line("e/v/r/s0", seconds=22)])
    assert lines.read_lines(path)["e/v/r/s0"]["seconds"] == 22


def test_half_a_line_at_the_end_is_left_out_and_said(
    lines: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "e.jsonl"
    write(path, [line("e/v/r/s0"), line("e/v/r/s1")], end='\n{"cell":"e/v/r/s2","sec')
    assert list(lines.read_lines(path)) == ["e/v/r/s0", "e/v/r/s1"]
    assert capsys.readouterr().err == f"{path}: line 3 is cut off and left out\n"
    lines.write_line(path, line("e/v/r/s3"))
    assert list(lines.read_lines(path)) == ["e/v/r/s0", "e/v/r/s1", "e/v/r/s3"]
    assert '"sec' not in path.read_text()


def test_a_last_line_that_only_lacks_its_end_counts(lines: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "e.jsonl"
    write(path, [line("e/v/r/s0"), line("e/v/r/s1")], end="")
    assert list(lines.read_lines(path)) == ["e/v/r/s0", "e/v/r/s1"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<<<<<<< ours", "line 2: this is no cell's result; remove it"),
        ('{"cell":"e/v/r/s4","sec', "line 2: this is no cell's result; remove it"),
        ('{"seconds":1}', "line 2: this is no cell's result; remove it"),
        ('{"cell":"e/v/r/s0","seconds":2}', "line 2: a second line of e/v/r/s0; remove one of the two"),
    ],
)
def test_a_wrong_line_is_an_error_that_costs_no_finished_cell(
    lines: ModuleType, tmp_path: Path, text: str, message: str
) -> None:
    path = tmp_path / "e.jsonl"
    path.write_text(f'{{"cell":"e/v/r/s0","seconds":1}}\n{text}\n')
    with pytest.raises(lines.ResultsError, match=message):
        lines.read_lines(path)
    with pytest.raises(lines.ResultsError, match=message):
        lines.write_line(path, line("e/v/r/s9", seconds=3))
    path.write_text(path.read_text().replace(f"{text}\n", ""))
    assert [each["seconds"] for each in lines.read_lines(path).values()] == [1, 3]


def test_two_writers_at_once_keep_each_others_lines(
    lines: ModuleType, tmp_path: Path, start_writer: StartWriter
) -> None:
    path = tmp_path / "e.jsonl"
    both = [start_writer(path, seeds) for seeds in (range(40), range(40, 80))]
    seen = 0
    while any(process.poll() is None for process in both):
        seen = max(seen, len(lines.read_lines(path)))  # never half a file, never fewer than before
        assert len(lines.read_lines(path)) >= seen
    assert [process.communicate()[0].split()[-1] for process in both] == ["39", "79"]
    assert list(lines.read_lines(path)) == [f"e/v/r/s{seed}" for seed in range(80)]


def test_what_a_killed_writer_had_written_is_there(
    lines: ModuleType, tmp_path: Path, start_writer: StartWriter, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "e.jsonl"
    process = start_writer(path, range(10_000))
    assert process.stdout is not None
    for _ in range(30):
        process.stdout.readline()
    process.kill()
    later, _ = process.communicate()
    finished = 30 + len(later.splitlines())
    # One more may have been written and not yet said.
    assert len(lines.read_lines(path)) in (finished, finished + 1)
    lines.write_line(path, line("e/v/r/s20000"))
    assert list(lines.read_lines(path))[:finished] == [f"e/v/r/s{seed}" for seed in range(finished)]
    assert capsys.readouterr().err == ""


def test_lines_that_two_machines_add_merge(lines: ModuleType, tmp_path: Path) -> None:
    """By git's union, which .gitattributes asks for; lines out of order read alike."""
    paths = [tmp_path / name for name in ("ours", "base", "theirs")]
    for path in paths:
        write(path, [line("e/v/r/s0"), line("e/v/r/s9")])
    lines.write_line(paths[0], line("e/v/r/s4"))
    lines.write_line(paths[2], line("e/v/r/s3"))
    subprocess.run(["git", "merge-file", "--union", *map(str, paths)], check=True)
    assert list(lines.read_lines(paths[0])) == [f"e/v/r/s{seed}" for seed in (0, 3, 4, 9)]
    attributes = (FOLDER.parents[1] / ".gitattributes").read_text()
    assert "benchmarks/reproduce/results/*.jsonl merge=union" in attributes


def test_the_files_in_the_repository_are_as_they_are_written(lines: ModuleType) -> None:
    found = sorted((FOLDER / "results").glob("*.jsonl"))
    assert found
    for path in found:
        own = lines.read_lines(path)
        text = "".join(json.dumps(each, separators=(",", ":")) + "\n" for each in own.values())
        assert path.read_text() == text, f"{path.name} is out of order; the next line written restores it"
        if path.stem not in ("diagnosis", "signal"):
            assert {name.partition("/")[0] for name in own} == {path.stem}
