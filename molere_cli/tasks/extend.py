"""A run that goes on for more epochs than it began with."""

from __future__ import annotations

from molere_cli.errors import ConfigError
from molere_cli.files import write_json
from molere_cli.run_dir import RunDir
from molere_cli.tasks.build import Engine
from molere_cli.tasks.provenance import settings_digest


def extend(run: RunDir, epochs: int) -> bool:
    """Let a run, finished or not, have so many epochs in all; whether it was to have fewer.

    Its settings say the new number, `environment.json` those from before under `extended_from`. Call it with
    the run locked and its settings checked.

    Raises:
        ConfigError: it is to have more.
    """
    settings, environment = run.config(), run.environment()
    before = settings["epochs"]
    if epochs < before:
        raise ConfigError(f"--epochs {epochs} is less than the {before} of {run.path}; a run only grows")
    if epochs == before:
        return False
    longer = {**settings, "epochs": epochs}
    # Settings and their digest lie in two files: whoever is killed between them leaves a run that is still
    # what it was, since either digest is right.
    digests = environment.get("digests", {})
    if "settings" in digests:
        digests |= {"settings": settings_digest(settings), "extended": settings_digest(longer)}
    run.mark_unfinished()
    if environment["split"] is None:  # the split is the one that the method ended on
        run.split_path.unlink(missing_ok=True)
    extended_from = [number for number in environment.get("extended_from", []) if number < before]
    write_json(
        run.path / "environment.json",
        {**environment, "digests": digests, "extended_from": [*extended_from, before]},
    )
    write_json(run.path / "config.json", longer)
    return True


def new_schedule(engine: Engine, run: RunDir) -> str:
    """What becomes of the learning rate, in a sentence; the engine has the run's last checkpoint."""
    loop, settings = engine.loop, engine.plan.config.classifier
    before = float(loop.optimizer.param_groups[0]["lr"])
    loop.scheduler.step(loop.next_epoch)
    after = float(loop.optimizer.param_groups[0]["lr"])
    had = run.environment()["extended_from"][-1]
    return (
        f"{run.path} was to have {had} epochs and now gets {settings.epochs}: from epoch "
        f"{loop.next_epoch + 1} on the learning rate is what --schedule {settings.schedule} has there in a "
        f"run of {settings.epochs}, {after:.3g} after {before:.3g}, and so with all that goes by the number "
        f"of epochs; `molere compare` keeps it apart from runs that had {settings.epochs} from the start"
    )
