"""What `--help` shows first, and what it leaves for `--help-all`."""

from __future__ import annotations

import re
import shlex

import pytest
from PIL import Image

from molere_cli.commands.plugin_commands import CORE_COMMANDS, plugin_commands
from molere_cli.config.run_config import OWNERS, RENAMED, flag_name
from molere_cli.registry.registry import load_plugins

WIDTH = 100
FLAG = re.compile(r"^│ (--[a-z-]+)", re.MULTILINE)


@pytest.fixture
def helped(molere, monkeypatch):
    """What a command prints, on a terminal of 100 columns."""
    monkeypatch.setenv("COLUMNS", str(WIDTH))
    monkeypatch.setattr("typer.rich_utils.MAX_WIDTH", WIDTH)

    def call(line: str) -> str:
        done = molere(line)
        assert done.code == 0, done.err
        return done.out

    return call


def test_the_first_help_of_train_is_short(helped):
    text = helped("train --help")
    assert len(text.rstrip().splitlines()) <= 60
    assert 15 <= len(FLAG.findall(text)) <= 25
    assert "--dataset" in text and "--help-all" in text and "--weight-bound" not in text


@pytest.mark.parametrize("command", ["train", "split", "submit"])
def test_help_all_shows_every_flag(command, helped):
    shown, short = (set(FLAG.findall(helped(f"{command} {flag}"))) for flag in ("--help-all", "--help"))
    assert short < shown and ("--to" in short) == (command == "submit")
    without = {"split": {"train_on", "eval_interval"}}.get(command, set())
    panels = {"split": {"Data", "Classifier", "Split", "Machine"}}.get(command)
    for name, section in OWNERS.items():
        wanted = name not in without and (panels is None or section.panel in panels)
        assert (flag_name(name) in shown) == wanted, name
    assert not {flag_name(name) for name in RENAMED} & shown


def examples_of(text: str) -> list[str]:
    return [line.strip() for line in text.partition("Examples:")[2].split("\n") if line.strip()]


@pytest.mark.parametrize("command", [*CORE_COMMANDS, *plugin_commands(load_plugins())])
def test_every_help_ends_with_two_examples(command, helped):
    examples = examples_of(helped(f"{command} --help"))
    assert len(examples) == 2
    assert all(example.startswith(f"molere {command}") for example in examples)


SMALLER = {
    **dict.fromkeys(("train", "split"), "--limit-train 30 --epochs 1 --device cpu"),
    "demo": "--seeds 0 --epochs 1",
}
"""What is added to an example, so that it trains for seconds."""
ORDER = ("train", "split", "eval", "compare", "predict")


@pytest.mark.long
@pytest.mark.slow
def test_the_examples_of_every_help_run(helped, molere, in_tmp):
    """One after the other in one folder, as a reader types them; later ones take what earlier ones left."""
    for place in ("photos/cat", "photos/dog", "new"):
        folder = in_tmp / place
        folder.mkdir(parents=True)
        for number in range(20):
            level = 10 * number + 20 * len(place)
            Image.new("RGB", (32, 32), (level % 256, 90, 40)).save(folder / f"{number}.png")
    others = [name for name in (*CORE_COMMANDS, *plugin_commands(load_plugins())) if name not in ORDER]
    for command in (*ORDER, *others):
        for example in examples_of(helped(f"{command} --help")):
            line = example.removeprefix("molere ").replace(
                "runs/*", shlex.join(map(str, in_tmp.glob("runs/digits*")))
            )
            done = molere(f"{line} {SMALLER.get(command, '')}")
            needs_slurm = "--to slurm" in example
            assert done.code == (1 if needs_slurm else 0), (example, done.err)
            assert not needs_slurm or "slurm" in done.err.lower()


def test_the_old_name_of_a_setting_still_counts(molere, in_tmp):
    """As a flag, in a file, and beside the new one, which is refused."""
    assert molere("train --method erm --weights nowhere.safetensors").err == (
        molere("train --method erm --init-from nowhere.safetensors").err
    )
    (in_tmp / "old.toml").write_text('method = "erm"\nweights = "nowhere.safetensors"\n')
    assert "nowhere.safetensors" in molere("train --config old.toml").err
    both = molere("train --method erm --weights a.safetensors --init-from b.safetensors")
    assert both.code == 1 and "old name of init_from" in both.err
