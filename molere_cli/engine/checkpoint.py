"""Everything a resume needs, both ways: nested state to safetensors plus JSON, and back. No pickle.

Tensors go to `state.safetensors`, the rest to `state.json` (`foundation/packing.py`). That comes last, and
has under `$digests` those of all three files (BLAKE2b); what older versions wrote has none, and is believed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from molere_cli.engine.classifier import Classifier
from molere_cli.foundation.errors import DamagedCheckpoint, RunError, on_one_line
from molere_cli.foundation.files import (
    digest,
    digest_of_file,
    json_text,
    parse_json,
    read_text,
    replacing,
    write_text,
)
from molere_cli.foundation.packing import pack, unpack
from molere_cli.runs.checkpoint_exchange import CHECKPOINT_COMPLETE

TENSORS = "state.safetensors"
CLASSIFIER = "classifier.safetensors"
LAST = "last.safetensors"
AVERAGE = "ema.safetensors"
LAST_AVERAGE = "last_ema.safetensors"
ALWAYS = {CLASSIFIER, TENSORS, CHECKPOINT_COMPLETE}
SOMETIMES = {LAST, AVERAGE, LAST_AVERAGE}
DIGESTS = "$digests"
STATE_LIMIT = 1 << 28
"""Bytes of `state.json` that are read at most."""
OS_ERROR = re.compile(r"\(os error (\d+)\)")
NOT_AS_WRITTEN = "it is not what was written"


def save_state(
    state: Mapping[str, Any],
    module: nn.Module,
    folder: Path,
    *,
    selected: Mapping[str, Tensor] | None = None,
    average: Mapping[str, Tensor] | None = None,
    selected_average: Mapping[str, Tensor] | None = None,
) -> None:
    """Write a checkpoint into an empty folder: the classifier as it loads elsewhere, and the rest.

    selected: the tensors of the classifier that counts, if it is not the one that trains on; then that one
    goes to a file of its own. average: the moving average of the weights that train, if there is one;
    selected_average: that of the epoch whose classifier counts, if that is another.
    """
    tensors: dict[str, Tensor] = {}
    packed = pack(state, tensors)
    trained = classifier_tensors(module)
    files = {CLASSIFIER: trained} if selected is None else {CLASSIFIER: dict(selected), LAST: trained}
    if average is not None and selected_average is not None:
        files |= {AVERAGE: dict(selected_average), LAST_AVERAGE: dict(average)}
    elif average is not None:
        files[AVERAGE] = dict(average)
    files[TENSORS] = tensors
    for name, content in files.items():
        _save(content, folder / name)
    digests = {name: digest_of_file(folder / name) for name in files}
    digests[CHECKPOINT_COMPLETE] = digest(json_text(packed).encode())
    write_text(folder / CHECKPOINT_COMPLETE, json_text({**packed, DIGESTS: digests}))


def _save(tensors: dict[str, Tensor], path: Path) -> None:
    with replacing(path) as temporary:
        try:
            save_file(tensors, temporary)
        except SafetensorError as error:
            # What the system says comes as text alone: "I/O error: No space left on device (os error 28)".
            if (number := OS_ERROR.search(str(error))) is None:
                raise
            raise OSError(int(number[1]), str(error)) from error


def load_state(folder: Path) -> Any:
    """The state that `save_state` was given.

    Raises:
        DamagedCheckpoint: a file is missing, or is not what was written.
    """
    state, digests = _manifest(folder)
    tensors = _tensors(folder / TENSORS, digests)
    try:
        return unpack(state, tensors)
    except (KeyError, ValueError, TypeError, RecursionError) as error:
        raise DamagedCheckpoint(folder, _reason(error)) from error


def load_classifier(module: nn.Module, folder: Path) -> None:
    """Put the parameters and buffers of a checkpoint's classifier that counts into its module.

    Raises:
        DamagedCheckpoint: the file is missing, or is not what was written.
        RunError: it belongs to another network.
    """
    _load_module(module, folder / CLASSIFIER, _manifest(folder)[1])


def load_averaged(module: nn.Module, folder: Path) -> None:
    """As `load_classifier`, the moving average of its weights.

    Raises:
        RunError: also where there is none.
    """
    digests = _manifest(folder)[1]
    if AVERAGE not in digests:
        raise RunError(f"{folder.parent} has no moving average of its weights; train a run with --ema 0.999")
    _load_module(module, folder / AVERAGE, digests)


def load_average(folder: Path) -> tuple[dict[str, Tensor] | None, dict[str, Tensor] | None]:
    """The tensors of the moving average of the weights that train, None if there is none; and of that of the
    epoch whose classifier counts, if that is another.

    Raises:
        DamagedCheckpoint: a file is missing, or is not what was written.
    """
    digests = _manifest(folder)[1]
    if LAST_AVERAGE in digests:
        return _tensors(folder / LAST_AVERAGE, digests), _tensors(folder / AVERAGE, digests)
    return (_tensors(folder / AVERAGE, digests) if AVERAGE in digests else None), None


def load_trained(module: nn.Module, folder: Path) -> dict[str, Tensor] | None:
    """As `load_classifier`, of the classifier that trains on; the tensors of the one that counts, if that is
    another."""
    digests = _manifest(folder)[1]
    apart = LAST in digests
    _load_module(module, folder / (LAST if apart else CLASSIFIER), digests)
    return _tensors(folder / CLASSIFIER, digests) if apart else None


def _load_module(module: nn.Module, path: Path, digests: Mapping[str, str]) -> None:
    tensors = _tensors(path, digests)
    try:
        module.load_state_dict(tensors)
    except RuntimeError as error:
        reason = on_one_line(str(error).strip().splitlines()[0], limit=200)
        raise RunError(f"{path} does not fit this backbone: {reason}") from error


def check_weights(path: Path) -> None:
    """Raise DamagedCheckpoint if a safetensors file is the classifier of a checkpoint, or its average, and is
    not what was written."""
    if path.name in {CLASSIFIER, AVERAGE} and (path.parent / CHECKPOINT_COMPLETE).is_file():
        _check(path, _manifest(path.parent)[1])


def _manifest(folder: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """The packed state, and the digest that each file must have; none in one of a version without."""
    path = folder / CHECKPOINT_COMPLETE
    try:
        state = parse_json(read_text(path, limit=STATE_LIMIT))
    except (OSError, ValueError) as error:
        raise DamagedCheckpoint(path, _reason(error)) from error
    if not isinstance(state, dict):
        raise DamagedCheckpoint(path, "it holds no JSON object")
    if DIGESTS not in state:
        return state, {}
    digests = state.pop(DIGESTS)
    named = isinstance(digests, dict) and digests.keys() - SOMETIMES == ALWAYS
    if not named or digests[CHECKPOINT_COMPLETE] != digest(json_text(state).encode()):
        raise DamagedCheckpoint(path, NOT_AS_WRITTEN)
    return state, digests


def _tensors(path: Path, digests: Mapping[str, str]) -> dict[str, Tensor]:
    try:
        _check(path, digests)
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise DamagedCheckpoint(path, _reason(error)) from error


def _check(path: Path, digests: Mapping[str, str]) -> None:
    if digests and digests.get(path.name) != digest_of_file(path):
        raise DamagedCheckpoint(path, NOT_AS_WRITTEN)


def _reason(error: Exception) -> str:
    text = error.strerror if isinstance(error, OSError) else None
    return on_one_line(text or str(error).strip())


def classifier_tensors(module: nn.Module) -> dict[str, Tensor]:
    """A module's `state_dict` as safetensors takes it: contiguous, nothing shared."""
    return {name: value.detach().cpu().contiguous().clone() for name, value in module.state_dict().items()}


def take_parameters_of_first(classifier: Classifier) -> None:
    """Put rank 0's parameters and buffers into the classifier of every rank that it is trained by."""
    ranks, module = classifier.ranks, classifier.module
    if ranks.are_several:
        module.load_state_dict(ranks.decided(lambda: classifier_tensors(module)))
