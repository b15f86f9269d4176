"""Event files for TensorBoard, by torch's own writer."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec

from molere_cli import ConfigError, TrackerRequest


class EventFiles:
    """A folder of event files for one run: `out/NAME`."""

    def __init__(self, request: TrackerRequest) -> None:
        """Begin a new folder.

        Raises:
            ConfigError: it is there already, or TensorBoard is not installed.
        """
        if find_spec("tensorboard") is None:
            raise ConfigError(
                "tracker tensorboard needs TensorBoard; install it with `pip install 'molere[tensorboard]'`"
            )
        from torch.utils.tensorboard import SummaryWriter

        folder = request.out / request.name
        if folder.exists():
            raise ConfigError(f"{folder} exists already; remove it, or choose another --out")
        self._writer = SummaryWriter(folder)
        shown = "\n".join(f"    {name} = {value!r}" for name, value in request.settings.items())
        self._writer.add_text("settings", shown)

    def log(self, record: Mapping[str, float], *, epoch: int) -> None:
        for name, value in record.items():
            self._writer.add_scalar(name, value, epoch)

    def close(self) -> None:
        self._writer.close()
