"""The programme: experiments as TOML files, each a grid of cells; a file of results each, a line a cell.

A cell is one training run: experiment/variant/row/seed. Its settings are those of the experiment, overridden
by the variant's (which data), the row's (which method) and the seed. `{data}` in a setting stands for the
folder of images (MOLERE_DATA, by default ../shared/data), so that a result reads alike on every machine.
"""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from lines import Line, read_lines
from pydantic import BaseModel, ConfigDict, Field

from molere_cli.api.run_schedule import parse_seeds
from molere_cli.config.config_file import validate_config
from molere_cli.config.run_config import RunConfig

HERE = Path(__file__).resolve().parent
EXPERIMENTS, RESULTS = HERE / "experiments", HERE / "results"
DATA = Path(os.environ.get("MOLERE_DATA", HERE.parents[2] / "shared" / "data"))

Settings = dict[str, Any]

# Of version 0.1, by method, as far as they are others now.
OLDER_DEFAULTS: dict[str, Settings] = {
    "lrw": {"split": "hard", "reweighter": "instance", "reweighter_interval": 1},
    "molere": {"split": "none", "reweighter": "instance", "reweighter_interval": 1},
}


class Part(BaseModel):
    """A variant or a row: how tables call it, and what it sets."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    label: str
    settings: Settings = Field(default_factory=dict)
    seeds: str | None = None
    """Seeds of its own, for a row that needs more or fewer."""
    variants: tuple[str, ...] | None = None
    """The variants that a row belongs to, if not to all."""


class Experiment(BaseModel):
    """One TOML file of experiments/.

    minutes: its share of the programme, on one core. order: small ones run first. sets: which test sets may
    be recorded; `tuning` alone where settings are chosen. data_seed_is_seed: every seed redraws the data too.
    reweighting: settings of the rows of LRW and MOLERE. defaults: the version whose defaults the rows were
    written for, where they are others now.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    title: str
    question: str
    order: int
    minutes: int
    seeds: str
    sets: tuple[str, ...] = ("test",)
    data_seed_is_seed: bool = False
    settings: Settings
    reweighting: Settings = Field(default_factory=dict)
    defaults: Literal["0.1"] | None = None
    variants: dict[str, Part]
    rows: dict[str, Part]


class Cell(BaseModel):
    """One run of the programme; `settings` as written, before `{data}` is filled in; `defaults`: what they
    leave to the defaults of an older version."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    experiment: str
    variant: str
    row: str
    seed: int
    settings: Settings
    defaults: Settings = Field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"{self.experiment}/{self.variant}/{self.row}/s{self.seed}"

    @property
    def path(self) -> Path:
        """The file that its result is a line of."""
        return results_of(self.experiment)

    @property
    def result(self) -> Line | None:
        """Its line, if there is one of these very settings."""
        line = read_lines(self.path).get(self.name)
        return line if line is not None and line["cell_settings"] == self.settings else None

    @property
    def is_done(self) -> bool:
        return self.result is not None

    def config(self) -> RunConfig:
        """The run's configuration on this machine; raises ConfigError if a setting is wrong."""
        return validate_config(filled_in(merged(self.defaults, self.settings)), source=self.name)


def results_of(name: str) -> Path:
    """The results of an experiment, or what a measurement left."""
    return RESULTS / f"{name}.jsonl"


def filled_in(settings: Mapping[str, Any]) -> Settings:
    """The settings with `{data}` replaced by the folder of images."""
    text = json.dumps(settings).replace("{data}", str(DATA))
    filled: Settings = json.loads(text)
    return filled


def with_placeholder(settings: Mapping[str, Any]) -> Settings:
    """The settings with the folder of images replaced by `{data}`."""
    text = json.dumps(settings).replace(str(DATA), "{data}")
    portable: Settings = json.loads(text)
    return portable


def experiments() -> dict[str, Experiment]:
    """All experiments by name, in the order they run in."""
    found = {
        path.stem: Experiment.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
        for path in EXPERIMENTS.glob("*.toml")
    }
    return dict(sorted(found.items(), key=lambda item: item[1].order))


def cells_of(name: str, experiment: Experiment) -> Iterator[Cell]:
    """The cells of an experiment: seed by seed, so that an interrupted programme has whole seeds."""
    rows = experiment.rows.items()
    seeds = {key: parse_seeds(row.seeds or experiment.seeds) for key, row in rows}
    for seed in sorted({seed for own in seeds.values() for seed in own}):
        for variant, data in experiment.variants.items():
            for key, row in rows:
                if seed not in seeds[key] or variant not in (row.variants or experiment.variants):
                    continue
                method = row.settings.get("method", "lrw")
                own = experiment.reweighting if method in OLDER_DEFAULTS else {}
                defaults = OLDER_DEFAULTS.get(method, {}) if experiment.defaults == "0.1" else {}
                settings = merged(experiment.settings, data.settings, own, row.settings, {"seed": seed})
                if experiment.data_seed_is_seed:
                    settings["data_seed"] = seed
                yield Cell(
                    experiment=name,
                    variant=variant,
                    row=key,
                    seed=seed,
                    settings=settings,
                    defaults=defaults,
                )


def merged(*layers: Mapping[str, Any]) -> Settings:
    """Later layers override earlier ones; tables of options add up key by key."""
    result: Settings = {}
    for layer in layers:
        for key, value in layer.items():
            below = result.get(key)
            both = isinstance(value, Mapping) and isinstance(below, Mapping)
            result[key] = {**below, **value} if both else value
    return result
