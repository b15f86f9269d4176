"""An exported classifier, put on the Hugging Face Hub."""

from __future__ import annotations

from pathlib import Path

from molere_cli import ConfigError, MolereError


def check_repository(name: str) -> None:
    """Raise ConfigError unless `name` is one that the Hub can have: ORG/NAME.

    Raises:
        ConfigError: it is not, with the reason.
    """
    from huggingface_hub.utils import HFValidationError, validate_repo_id

    try:
        validate_repo_id(name)
        wrong = "" if name.count("/") == 1 else "a name is ORG/NAME"
    except HFValidationError as error:
        wrong = str(error).splitlines()[0].rstrip(".")
    if wrong:
        raise ConfigError(f"--push {name!r}: {wrong}")


def push_folder(folder: Path, name: str, *, private: bool) -> str:
    """Upload all files of `folder` into the model repository `name`, made where it is not; its address.

    Raises:
        MolereError: the Hub cannot be reached, or refuses.
    """
    from huggingface_hub import HfApi

    hub = HfApi()
    try:
        address = hub.create_repo(name, private=private, exist_ok=True)
        hub.upload_folder(repo_id=name, folder_path=folder, commit_message="molere export")
    except Exception as error:  # each version of its library has others for a network that is not there
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        raise MolereError(
            f"{folder} is written, but the Hub did not take it as {name} ({reason}); `hf auth login` keeps "
            f"a token, and `hf upload {name} {folder}` tries again"
        ) from error
    return str(address)
