"""Every flag of every command with every kind of value that it cannot have: one sentence, at once."""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Iterator

import pytest
import typer

from molere_cli.api.run_schedule import MAX_SEEDS, parse_seeds
from molere_cli.commands import app as entry
from molere_cli.config.run_config import OWNERS, field_of
from molere_cli.config.sections import MAX_SEED
from molere_cli.foundation.errors import ConfigError

# What comes before the flag, so that a value which is legal ends in a sentence about something else.
BASES = {
    "train": ["--method", "erm", "--dataset", "folder:nowhere"],
    "split": ["--dataset", "folder:nowhere"],
    "eval": ["--runs", "nowhere"],
    "compare": ["--runs", "nowhere"],
    "report": ["--runs", "nowhere"],
    "plot": ["--runs", "nowhere"],
    "log": ["--runs", "nowhere"],
    "curves": ["--runs", "nowhere"],
    "export": ["nowhere", "out"],
    "hardest": ["nowhere"],
    "submit": ["--method", "erm", "--dataset", "folder:nowhere", "--out", "out"],  # which is refused
    "predict": ["nowhere", "nothing.png"],
    "plugins": [],
    "cache": [],
    "demo": ["--seeds", "none"],
}
# `plugins --filter` takes any text.
MAY_SUCCEED = {("plugins", "--filter")}
# One seed, with which the demo would begin.
LEGAL = {("demo", "--seeds", "zero")}
KINDS = {
    "wrong type": "x y",
    "negative": "-1",
    "zero": "0",
    "huge": "1" + 30 * "0",
    "endless": 5000 * "9",
    "fraction": "2.5",
    "NaN": "nan",
    "infinite": "1e999",
    "non-ASCII": "café-猫-٣",
    "not UTF-8": "a\udce9=b",
    "escape": "a\x1b[31m=b",
    "empty": "",
    "directory": ".",
    "pair": "key=1" + 30 * "0",
    "range": "0-999999999",
}
SECONDS = 10.0


def flags() -> Iterator[tuple[str, str, bool]]:
    """(command, flag, whether it takes a value), from the app itself."""
    group = typer.main.get_command(entry.app)
    for name in group.list_commands(None):
        command = group.get_command(None, name)
        for parameter in command.params:
            if parameter.param_type_name == "option" and parameter.name != "help":
                yield name, parameter.opts[0], not parameter.is_flag


FLAGS = list(flags())
WITH_VALUE = [(command, flag) for command, flag, takes_value in FLAGS if takes_value]
NUMBERS = [
    flag
    for command, flag in WITH_VALUE
    if command == "train"
    and (name := flag[2:].replace("-", "_")) in OWNERS
    and {int, float} & {field_of(name).annotation, *getattr(field_of(name).annotation, "__args__", ())}
]


@pytest.fixture
def refused(in_tmp, monkeypatch, capsys):
    """Runs a command line that must end in one sentence and leave nothing; its exit code and sentence."""
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)

    def call(*arguments: str, may_succeed: bool = False) -> tuple[int | str | None, str]:
        monkeypatch.setattr(sys, "argv", ["molere", *arguments])
        started = time.perf_counter()
        with pytest.raises(SystemExit) as left:
            entry.main()
        seconds, shown = time.perf_counter() - started, capsys.readouterr()
        code = left.value.code
        assert seconds < SECONDS, f"{arguments} took {seconds:.1f} s"
        assert "Traceback" not in shown.err and "\x1b" not in shown.err
        assert list(in_tmp.iterdir()) == [], f"{arguments} left something"
        if may_succeed and code == 0:
            return code, ""
        assert (code, shown.out) in {(1, ""), (2, "")}, f"{arguments}: {code} {shown}"
        if code == 1:
            assert shown.err.startswith("molere: ") and shown.err.count("\n") == 1, shown.err
        else:
            assert " Error " in shown.err
        return code, shown.err

    return call


def test_every_command_has_a_base():
    assert BASES.keys() == {command for command, _, _ in FLAGS}
    assert len(NUMBERS) > 25


@pytest.mark.parametrize("command", BASES)
def test_every_flag_misses_its_value(command, refused):
    for name, flag in WITH_VALUE:
        if name == command:
            code, _ = refused(command, *BASES[command], flag)
            assert code == 2


@pytest.mark.parametrize("flag", NUMBERS)
def test_a_number_that_makes_no_sense_is_refused_by_its_name(flag, refused):
    """Too many threads end the process without a word, and too many examples a step end its memory."""
    for value in ("nan", "1" + 300 * "0"):
        _, sentence = refused("train", "--method", "erm", "--dataset", "folder:nowhere", flag, value)
        is_refused_by_name = flag in sentence or f"{flag[2:].replace('-', '_')} = " in sentence
        # A floating-point number may be that large.
        assert is_refused_by_name or ("nowhere" in sentence and value.startswith("10"))


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("command", BASES)
def test_no_value_of_a_flag_ends_in_more_than_a_sentence(command, kind, refused):
    for name, flag in WITH_VALUE:
        if name == command and (name, flag, kind) not in LEGAL:
            refused(
                command, *BASES[command], f"{flag}={KINDS[kind]}", may_succeed=(name, flag) in MAY_SUCCEED
            )


@pytest.mark.slow
@pytest.mark.parametrize("command", BASES)
def test_a_switch_takes_no_value(command, refused):
    for name, flag, takes_value in FLAGS:
        if name == command and not takes_value:
            assert refused(command, *BASES[command], f"{flag}=1")[0] == 2


@pytest.mark.parametrize("text", ["0-999999999", "1-" + 30 * "9", f"0-{MAX_SEEDS}", "0-5000,6000-12000"])
def test_no_list_of_very_many_seeds_is_made(text):
    started = time.perf_counter()
    with pytest.raises(ConfigError, match="are more than 10,000; give fewer in one command"):
        parse_seeds(text)
    assert time.perf_counter() - started < 0.1


def test_a_seed_beyond_all_generators_is_refused():
    with pytest.raises(ConfigError, match=f"go beyond {MAX_SEED}, the largest that there is"):
        parse_seeds(f"0,{MAX_SEED + 1}")
    assert parse_seeds(str(MAX_SEED)) == [MAX_SEED]


def test_as_many_seeds_as_one_command_takes():
    assert parse_seeds(f"0-{MAX_SEEDS - 1}") == list(range(MAX_SEEDS))


def test_bounds_leave_what_saved_runs_have(tmp_path):
    """What machines have today, and the sizes of the largest batches and images in use."""
    from molere_cli.config.config_file import validate_config

    generous = {"threads": 512, "workers": 256, "batch_size": 65536, "image_size": 1024, "epochs": 5000}
    assert validate_config({**generous, "seed": 2**32 - 1, "reweighter_interval": 100_000}).given == {
        **generous,
        "seed": 2**32 - 1,
        "reweighter_interval": 100_000,
    }
