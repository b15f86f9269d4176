"""`molere split`: make a split and write its file."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from molere_cli.config.config_file import saved_config
from molere_cli.config.paths import with_absolute_paths
from molere_cli.config.run_config import RunConfig, flag_name
from molere_cli.config.run_names import dataset_slug
from molere_cli.config.sections import SPLIT_SUFFIX
from molere_cli.data.source import LoadedDataset
from molere_cli.foundation.errors import ConfigError, RunError
from molere_cli.foundation.progress import Progress
from molere_cli.hardness.make_split import make_split
from molere_cli.registry.registry import Registry
from molere_cli.runs.run_directory import RunDir
from molere_cli.splits.split_file import Split, write_new_split
from molere_cli.training.process_group import joined_ranks, load_together
from molere_cli.training.told_to_all import same_configs


@dataclass(frozen=True, eq=False)
class NewSplit:
    """A split that has just been written, with the configuration and the dataset it is of."""

    path: Path
    config: RunConfig
    split: Split
    data: LoadedDataset


def new_split_file(
    config: RunConfig,
    registry: Registry,
    *,
    erm: Path | None,
    out: Path | None,
    runs: Path,
    progress: Progress,
) -> NewSplit:
    """Make the split `config.split.split` and write it, by default under `splits/`.

    Args:
        erm: the ERM run to take scores, dataset and settings from; `config` then adds what was given of
            delta, score, folds and seed.

    Raises:
        ConfigError: another setting than `erm` has.
        RunError: `erm` is no ERM run on the whole pool; or `out` exists.
    """
    run = None if erm is None else RunDir(erm)

    def whole() -> list[RunConfig]:
        if out is not None and os.path.lexists(out):
            raise _taken(out)
        full = config if run is None else config_of_erm_run(run, config, registry)
        return [with_absolute_paths(full, registry)]

    (settings,) = same_configs(joined_ranks(), whole)
    data = load_together(settings.data, registry)
    split = make_split(settings, registry, data, erm=run, runs=runs, progress=progress)
    progress.data_taken(data.summary.line(), data.summary.remarks())
    return write_split_file(split, settings, data, registry, out=out)


def write_split_file(
    split: Split, config: RunConfig, data: LoadedDataset, registry: Registry, *, out: Path | None
) -> NewSplit:
    """Write a split that was made as `config` has it, by default under `splits/`.

    Raises:
        RunError: `out` exists.
    """
    strategy, _argument = registry.split(config.split.split)
    what = f"{split.info.delta:g}" if split.info.val_dataset is None else dataset_slug(split.info.val_dataset)
    name = f"{dataset_slug(config.data.dataset)}-{strategy.name}-{what}{SPLIT_SUFFIX}"
    path = out or Path("splits") / name

    def write() -> str:
        try:
            return str(write_new_split(split, path, numbered=out is None))
        except FileExistsError as error:
            raise _taken(path) from error

    return NewSplit(Path(joined_ranks().decided(write)), config, split, data)


def _taken(path: Path) -> RunError:
    return RunError(f"{path} exists already; choose another --out")


def config_of_erm_run(run: RunDir, given: RunConfig, registry: Registry) -> RunConfig:
    """The configuration of an ERM run, with what was given of a split's own settings.

    Raises:
        RunError: it is no ERM run on the whole pool.
        ConfigError: another setting was given than the run has.
    """
    config = saved_config(run.config(), source=str(run.path / "config.json"))
    method = config.method.method
    if method != "erm" or config.split.train_on != "all":
        raise RunError(f"{run.path} is a run of method {method!r}; give one of erm on the whole pool")
    names, given = given.given.keys(), with_absolute_paths(given, registry)
    own = {"split", "delta", "score", "folds", "seed"} & names
    for name in sorted(names - own):
        if (asked := given.value(name)) != (settled := config.value(name)):
            raise ConfigError(
                f"{flag_name(name)} {asked} is not what --erm {run.path} was trained with ({settled}); "
                "leave it out, or name another run"
            )
    return config.updated(**{name: given.value(name) for name in own})
