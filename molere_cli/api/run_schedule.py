"""methods x learning rates x seeds as jobs: planned once, then each is trained, resumed or taken."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from pathlib import Path
from statistics import fmean

import torch

from molere_cli.config.paths import with_absolute_paths
from molere_cli.config.plan import Plan, make_plan
from molere_cli.config.run_config import RunConfig
from molere_cli.config.sections import MAX_SEED
from molere_cli.data.source import LoadedDataset
from molere_cli.foundation.errors import ConfigError, MolereError, RunError, SplitError, shown
from molere_cli.foundation.files import claim_folder, claim_name, hidden_beside, writing
from molere_cli.foundation.locks import Note
from molere_cli.foundation.progress import Progress
from molere_cli.hardness.hardness_scores import announced
from molere_cli.hardness.make_split import MadeSplits, split_for
from molere_cli.registry.registry import Registry
from molere_cli.runs.begin_run import clear_beginning, taken
from molere_cli.runs.find_runs import CANDIDATES, run_paths
from molere_cli.runs.run_directory import RunDir
from molere_cli.splits.split_file import Split, read_split
from molere_cli.training.model_selection import TUNING, check_selection
from molere_cli.training.process_group import joined_ranks, load_together
from molere_cli.training.resume_run import resume_run
from molere_cli.training.run_identity import (
    MACHINE_SETTINGS,
    check_fingerprint,
    check_test_sets,
    has_settings,
)
from molere_cli.training.train_run import train_run

MAX_SEEDS = 10_000
"""Of one command: as many runs in turn."""


@dataclass(frozen=True, eq=False)
class Job:
    """One run of a schedule.

    given: its configuration, before automatic numbers are filled in; plan: after. runs: the folder that it
    goes to and is looked for in. out: its path, where it was given one of its own.
    """

    given: RunConfig
    plan: Plan
    runs: Path
    out: Path | None = None

    @property
    def title(self) -> str:
        config = self.plan.config
        return f"{config.method.method} with seed {config.machine.seed}"


@dataclass(frozen=True, eq=False)
class Search:
    """The jobs of one method: all seeds at each learning rate, by rate; of several the tuning set chooses
    one. By None: at the rate of the configuration."""

    config: RunConfig
    by_rate: dict[float | None, list[Job]]

    @property
    def jobs(self) -> list[Job]:
        return list(chain.from_iterable(self.by_rate.values()))

    @property
    def has_several_rates(self) -> bool:
        return None not in self.by_rate


@dataclass(frozen=True, eq=False)
class Schedule:
    """What a command trains, in order: a search for each method."""

    searches: list[Search]
    registry: Registry
    runs: Path

    @property
    def jobs(self) -> list[Job]:
        return list(chain.from_iterable(search.jobs for search in self.searches))


@dataclass(frozen=True)
class Outcome:
    """The runs that are finished, and what went wrong with the others, a sentence each."""

    finished: list[RunDir] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def check(self) -> None:
        """Raise RunError if any failed, naming all."""
        if not self.failures:
            return
        failed, number = len(self.failures), len(self.failures) + len(self.finished)
        raise RunError(f"{failed} of {number} runs failed: {'; '.join(self.failures)}")


def parse_seeds(text: str) -> list[int]:
    """`0-4` or `0,2,7-9` as a list of seeds, in the order given.

    Raises:
        ConfigError: it is not of that form, names a seed twice, one beyond `MAX_SEED`, or more than
            `MAX_SEEDS`.
    """
    try:
        ranges = [_seed_range(part) for part in text.split(",")]
    except ValueError as error:
        raise ConfigError(f"seeds {shown(text)} are not of the form 0-4 or 0,2,7") from error
    # Of ranges no list is made before it is known to be short; `len` of a huge range would not fit.
    if sum(max(0, part.stop - part.start) for part in ranges) > MAX_SEEDS:
        raise ConfigError(f"seeds {shown(text)} are more than {MAX_SEEDS:,}; give fewer in one command")
    if any(part.stop > MAX_SEED + 1 for part in ranges):
        raise ConfigError(f"seeds {shown(text)} go beyond {MAX_SEED}, the largest that there is")
    seeds = list(chain.from_iterable(ranges))
    if not seeds or len(set(seeds)) < len(seeds):
        raise ConfigError(f"seeds {shown(text)} name {'none' if not seeds else 'one twice'}")
    return seeds


def _seed_range(text: str) -> range:
    first, dash, last = text.partition("-")
    return range(int(first), int(last if dash else first) + 1)


def parse_rates(text: str) -> list[float]:
    """`0.01,0.03` as numbers, in the order given.

    Raises:
        ConfigError: one is no number, or stands there twice.
    """
    try:
        rates = [float(part) for part in text.split(",")]
    except ValueError as error:
        raise ConfigError(f"--lr {text!r} is no number, nor several with commas between") from error
    if len(set(rates)) < len(rates):
        raise ConfigError(f"--lr {text} names a rate twice")
    return rates


def make_schedule(
    configs: Sequence[RunConfig],
    registry: Registry,
    *,
    seeds: Sequence[int] | None = None,
    rates: Sequence[float] = (),
    runs: Path,
    out: Path | None = None,
) -> Schedule:
    """Every configuration for every seed (default: its own) at every rate, with all that can be checked
    before the data are there.

    Args:
        rates: learning rates, of which the tuning set chooses one for each configuration. What is trained for
            the choice goes to the folder `.grid` of `runs`, and those of the best one are copied to `runs`.

    Raises:
        ConfigError: `out` with several runs, several rates without --select best, or a setting that is wrong.
        UnknownNameError: a name that no plugin offers.
    """
    if out is not None and (several := _several(configs, seeds, rates)):
        raise ConfigError(f"--out names one run, but there are several {several}; leave it out")
    searches = []
    for config in configs:
        if rates and config.selection.select != "best":
            raise ConfigError(
                "several learning rates need --select best, which chooses among them by the tuning set"
            )
        config = with_absolute_paths(config, registry)
        own_seeds = seeds or [config.machine.seed]
        by_rate: dict[float | None, list[Job]] = {}
        every_rate: Sequence[float | None] = rates or [None]
        for rate in every_rate:
            changed = config if rate is None else config.updated(lr=_checked_rate(rate))
            folder = runs if rate is None else runs / CANDIDATES
            given = [changed.updated(seed=seed) for seed in own_seeds]
            by_rate[rate] = [Job(one, make_plan(one, registry), folder, out) for one in given]
        searches.append(Search(config, by_rate))
    return Schedule(searches, registry, runs)


def _several(configs: Sequence[RunConfig], seeds: Sequence[int] | None, rates: Sequence[float]) -> str | None:
    if len(configs) > 1:
        return "methods"
    if rates:
        return "learning rates"
    return "seeds" if len(seeds or [0]) > 1 else None


def _checked_rate(rate: float) -> float:
    if not 0 < rate < float("inf"):
        raise ConfigError(f"--lr {rate:g} is no learning rate; it must be a number greater than 0")
    return rate


def run_schedule(
    schedule: Schedule,
    *,
    resume_unfinished: bool = False,
    data: LoadedDataset | None = None,
    made: MadeSplits | None = None,
    progress: Progress,
) -> Outcome:
    """Run every job; of several, one that fails is noted, and the others are trained.

    Each dataset is loaded once, and a split that several methods need is made once.

    Args:
        resume_unfinished: whether a run that has a job's settings already is taken if it is finished, and
            gone on with if not.
        data: the dataset of all jobs, if it has been loaded already; it must be what they name.
        made: splits made so far.

    Raises:
        MolereError: what keeps all jobs of a method from being trained; or the only job has failed.
    """
    outcome = Outcome()
    loaded = _loaded(schedule, data)
    work = _Work(
        resume=resume_unfinished,
        made={} if made is None else made,
        several=len(schedule.jobs) > 1,
        progress=progress,
    )
    for search, of_search in zip(schedule.searches, loaded, strict=True):
        if search.has_several_rates:
            outcome.finished.extend(_best_rate(search, of_search, schedule.runs, work))
        else:
            outcome.finished.extend(work.run_all(search.jobs, of_search, failures=outcome.failures))
    return outcome


def _loaded(schedule: Schedule, data: LoadedDataset | None) -> list[LoadedDataset]:
    """The dataset of every search, each loaded once; all of them before anything is trained, so that a method
    that cannot select by its data is found out while nothing is lost.

    Raises:
        ConfigError: the settings select by what a dataset has not.
    """
    found: list[LoadedDataset] = []
    for position, search in enumerate(schedule.searches):
        earlier = (
            loaded
            for before, loaded in zip(schedule.searches[:position], found, strict=True)
            if before.config.data == search.config.data
        )
        loaded = data or next(earlier, None) or load_together(search.config.data, schedule.registry)
        check_selection(search.config.selection, loaded)
        found.append(loaded)
    return found


def train_runs(
    config: RunConfig,
    seeds: Sequence[int],
    registry: Registry,
    *,
    runs: Path,
    out: Path | None = None,
    resume_unfinished: bool = False,
    data: LoadedDataset | None = None,
    made: MadeSplits | None = None,
    progress: Progress,
) -> list[RunDir]:
    """One configuration for some seeds, under `runs` or, the only one, as `out`; see `run_schedule`.

    Raises:
        MolereError: as of `make_schedule` and `run_schedule`; or several runs failed, all of which it names.
    """
    schedule = make_schedule([config], registry, seeds=seeds, runs=runs, out=out)
    outcome = run_schedule(
        schedule, resume_unfinished=resume_unfinished, data=data, made=made, progress=progress
    )
    outcome.check()
    return outcome.finished


def _best_rate(search: Search, data: LoadedDataset, runs: Path, work: _Work) -> Iterator[RunDir]:
    """Run every job, and yield those of the best rate, copied to `runs`.

    The best has the highest mean over seeds of what `--select-by` says on the tuning set; of equals, the
    first. A rate with which a seed cannot be trained is skipped.

    Raises:
        RunError: with no rate can every seed be trained.
    """
    by, progress, ranks = search.config.selection.select_by, work.progress, joined_ranks()
    found: dict[float | None, list[RunDir]] = {}
    failures: list[str] = []
    for rate, jobs in search.by_rate.items():
        failed: list[str] = []
        finished = work.run_all(jobs, data, failures=failed, may_fail=True)
        if failed:
            progress.note(f"--lr {rate:g} is skipped: not every seed could be trained with it")
            failures += failed
        else:
            found[rate] = finished
    if not found:
        raise RunError(f"no learning rate could be trained with every seed: {'; '.join(failures)}")
    tuned = ranks.decided(
        lambda: {
            rate: [run.metrics()[-1][f"{TUNING}/{by}"] for run in finished]
            for rate, finished in found.items()
        }
    )
    best = max(tuned, key=lambda rate: fmean(tuned[rate]))
    means = ", ".join(f"{rate:g}: {100 * fmean(values):.2f}" for rate, values in tuned.items())
    progress.note(f"--lr {best:g} it is, by {by.replace('_', ' ')} on the tuning set in percent ({means})")
    grid = {"lr": {f"{rate:g}": values for rate, values in tuned.items()}, "by": by, "chosen": best}
    for run in found[best]:
        yield RunDir(Path(ranks.decided(partial(_copied, run, runs, grid))))


def _copied(run: RunDir, runs: Path, grid: Mapping[str, object]) -> str:
    """The path of the run as one of `runs`, under a name of its own unless it is there already."""
    same = [path for path in run_paths(runs) if _is_copy(path, run.path)]
    if same:
        return str(same[0])
    stem = runs / run.path.name
    hidden = hidden_beside(stem)
    try:
        with writing(stem):
            shutil.copytree(run.path, hidden, ignore=shutil.ignore_patterns("lock"))
            RunDir(hidden).write_grid(grid)
            return str(claim_name(stem, partial(claim_folder, hidden), numbered=True))
    finally:
        shutil.rmtree(hidden, ignore_errors=True)


def _is_copy(path: Path, original: Path) -> bool:
    # It has the time at which the run was finished, and the digests of what it wrote.
    done = path / "DONE"
    return done.is_file() and done.read_bytes() == (original / "DONE").read_bytes()


@dataclass(frozen=True)
class _Work:
    """How jobs are run, the same for all of a schedule."""

    resume: bool
    made: MadeSplits
    several: bool
    progress: Progress

    def run_all(
        self, jobs: Sequence[Job], data: LoadedDataset, *, failures: list[str], may_fail: bool = False
    ) -> list[RunDir]:
        """The runs of those that did not fail; of the others a sentence each in `failures`."""
        finished = []
        for job in jobs:
            try:
                with joined_ranks().agreed():
                    finished.append(self._run_announced(job, data))
            except MolereError as error:
                if not (self.several or may_fail):
                    raise
                self.progress.run_ended(None)
                failures.append(f"{job.title}: {error}")
                self.progress.note(f"{failures[-1]}; going on with the others")
        return finished

    def _run_announced(self, job: Job, data: LoadedDataset) -> RunDir:
        folder = job.runs if job.out is None else job.out.parent
        note = self.progress.note
        with joined_ranks().first_holds(lambda: announced(job.plan, data, runs=folder, note=note)):
            return self._run(job, data)

    def _run(self, job: Job, data: LoadedDataset) -> RunDir:
        """Take a finished run of the job's settings, go on with one, or begin one."""
        plan, out = job.plan, job.out
        found = joined_ranks().decided(lambda: self._found(job, data))
        run = None if found is None else RunDir(Path(found[1]))
        if found is not None and run is not None and found[0] != "like":
            return run if found[0] == "take" else self._gone_on_with(run, plan, data)
        split = split_for(plan, data, runs=job.runs, made=self.made, progress=self.progress)
        path, numbered = out or job.runs / plan.run_name, out is None
        return train_run(plan, data, split, path, numbered=numbered, like=run, progress=self.progress)

    def _found(self, job: Job, data: LoadedDataset) -> tuple[str, str] | None:
        """A run of the job's settings: to `take`, to `go on` with, or merely `like` it; and its path.

        Raises:
            RunError: the job is to go where another run is.
        """
        plan, out, note = job.plan, job.out, self.progress.note
        paths = run_paths(job.runs) if out is None else [out]
        tell = note if self.resume else _say_nothing
        fitting = [run for run in map(RunDir, paths) if _is_run_of(run, plan, data, note=tell)]
        if self.resume and fitting:
            return self._taken_up(fitting)
        if out is None:
            # A run that has no checkpoint is as good as none.
            idle = [run for run in fitting if not run.is_being_trained()]
            like = next((run for run in idle if not clear_beginning(run.path, note=note)), None)
            return None if like is None else ("like", str(like.path))
        if os.path.lexists(out) and not clear_beginning(out, note=note):
            raise taken(out)
        return None

    def _taken_up(self, fitting: Sequence[RunDir]) -> tuple[str, str]:
        """The newest finished one of the runs, or the one that has come furthest, to go on with."""
        if done := [run for run in fitting if run.is_done]:
            newest = max(done, key=lambda run: (run.path / "DONE").stat().st_mtime)
            newest.is_being_trained()  # what is left of its lock is removed
            self.progress.note(f"{newest.path} is finished with these settings")
            return "take", str(newest.path)
        furthest = max(fitting, key=lambda run: (run.checkpoint() is not None, run.num_records()))
        self.progress.note(f"going on with {furthest.path}")
        return "go on", str(furthest.path)

    def _gone_on_with(self, run: RunDir, plan: Plan, data: LoadedDataset) -> RunDir:
        machine = plan.config.machine
        return resume_run(
            run.path,
            plan.registry,
            data=data,
            checkpoint_every=machine.checkpoint_every if "checkpoint_every" in plan.config.given else None,
            progress=self.progress,
        )


def _say_nothing(_message: str) -> None:
    pass


def _is_run_of(run: RunDir, plan: Plan, data: LoadedDataset, *, note: Note) -> bool:
    """Whether the run was begun with these settings, those of the machine aside, and with these data; `note`
    is told of one that has the settings and other data, or cannot be read."""
    settings = plan.for_pool(len(data.dataset.pool)).settings
    try:
        if not has_settings(run, settings, but=MACHINE_SETTINGS):
            return False
        check_fingerprint(run, data)
        check_test_sets(run, data)
        return _has_split_of(run, plan, data)
    except (RunError, ConfigError, SplitError) as error:
        note(f"{error}; it is left as it is")
        return False


def _has_split_of(run: RunDir, plan: Plan, data: LoadedDataset) -> bool:
    """Whether the run has the split of the plan's file; a strategy gives the same one again."""
    if not plan.needs_split or not plan.config.split.split_is_file:
        return True
    theirs, ours = (
        read_split(path).aligned(data.pool_indices, source=str(path))
        for path in (run.split_path, Path(plan.config.split.split))
    )
    return _same_content(theirs, ours)


def _same_content(one: Split, other: Split) -> bool:
    """Whether two splits of one pool, in its order, train alike: who is in validation, the scores that
    reweighters go by, and what the validation set is."""
    if not torch.equal(one.in_validation, other.in_validation):
        return False
    if one.score is None or other.score is None:
        if one.score is not other.score:
            return False
    elif not torch.allclose(one.score, other.score, rtol=0, atol=0, equal_nan=True):
        return False
    aside = {"versions", "erm_run", "finding", "seed"}
    return one.info.model_dump(exclude=aside) == other.info.model_dump(exclude=aside)
