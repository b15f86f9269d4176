"""A run that goes on for more epochs than it began with."""

from __future__ import annotations

from molere_cli.foundation.errors import ConfigError
from molere_cli.runs.run_directory import RunDir
from molere_cli.training.build_engine import Engine


def check_extension(run: RunDir, had: int, epochs: int) -> None:
    """Raise ConfigError if a run that was to have `had` epochs is to have fewer."""
    if epochs < had:
        raise ConfigError(f"--epochs {epochs} is less than the {had} of {run.path}; a run only grows")


def new_schedule(engine: Engine, run: RunDir, had: int) -> str:
    """What becomes of the learning rate, in a sentence; the engine has the run's last checkpoint."""
    loop, settings = engine.loop, engine.plan.config.classifier
    before = float(loop.optimizer.param_groups[0]["lr"])
    loop.scheduler.step(loop.next_epoch)
    after = float(loop.optimizer.param_groups[0]["lr"])
    return (
        f"{run.path} was to have {had} epochs and now gets {settings.epochs}: from epoch "
        f"{loop.next_epoch + 1} on the learning rate is what --schedule {settings.schedule} has there in a "
        f"run of {settings.epochs}, {after:.3g} after {before:.3g}, and so with all that goes by the number "
        f"of epochs; `molere compare` keeps it apart from runs that had {settings.epochs} from the start"
    )
