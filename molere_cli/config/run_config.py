"""The configuration of one run: eight sections, one for each owner, under flat names outside.

Flags, TOML keys and the saved `config.json` know no sections: a setting's name is unique among all of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Self

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from molere_cli.config.sections import (
    NO_START,
    ClassifierSettings,
    DataSettings,
    InPlay,
    MachineSettings,
    MethodSettings,
    ReweightingSettings,
    Section,
    SelectionSettings,
    SplitSettings,
    SplitterSettings,
)
from molere_cli.foundation.errors import ConfigError
from molere_cli.registry.option_errors import explain_validation


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """All settings of one training run. `RunConfig.of(lr=0.1)` makes one from flat names."""

    data: DataSettings = field(default_factory=DataSettings)
    classifier: ClassifierSettings = field(default_factory=ClassifierSettings)
    selection: SelectionSettings = field(default_factory=SelectionSettings)
    method: MethodSettings = field(default_factory=MethodSettings)
    split: SplitSettings = field(default_factory=SplitSettings)
    reweighting: ReweightingSettings = field(default_factory=ReweightingSettings)
    splitter: SplitterSettings = field(default_factory=SplitterSettings)
    machine: MachineSettings = field(default_factory=MachineSettings)

    @classmethod
    def of(cls, **settings: Any) -> Self:
        """The configuration with these settings, the others at their defaults.

        Raises:
            TypeError: there is no setting of that name.
            pydantic.ValidationError: a value is not valid; `validate_config` makes a sentence of it.
        """
        if unknown := settings.keys() - OWNERS.keys():
            raise TypeError(f"no setting {min(unknown)!r}")
        sections: dict[str, Any] = {
            place: section.model_validate(
                {name: settings[name] for name in section.model_fields if name in settings}
            )
            for place, section in SECTIONS.items()
        }
        return cls(**sections)

    def sections(self) -> Iterator[Section]:
        """The sections in the order of their flags."""
        return (getattr(self, place) for place in SECTIONS)

    @property
    def given(self) -> dict[str, Any]:
        """The settings that were given, as Python values; the others are at their defaults."""
        return {
            name: getattr(section, name)
            for section in self.sections()
            for name in type(section).model_fields
            if name in section.model_fields_set
        }

    def value(self, name: str) -> Any:
        """One setting's."""
        return next(
            getattr(section, name) for section in self.sections() if name in type(section).model_fields
        )

    def updated(self, **changes: Any) -> Self:
        """A validated copy with `changes`; what was given before still counts as given."""
        return self.of(**{**self.given, **changes})

    def without_effect(self, in_play: InPlay) -> dict[str, str]:
        """The settings that change nothing, each with the reason (`Section.without_effect`)."""
        return {
            name: reason
            for section in self.sections()
            for name, reason in section.without_effect(in_play).items()
        }

    def refuse_idle(self, in_play: InPlay, *, under: str) -> None:
        """Raise ConfigError if a setting was given that changes nothing under what `under` names."""
        idle = self.without_effect(in_play)
        if idle_given := sorted(idle.keys() & self.given):
            flags = ", ".join(flag_name(name) for name in idle_given)
            reasons = [idle[name] for name in idle_given if idle[name]]
            reason = reasons[0] if reasons else "; leave it out or choose another method"
            raise ConfigError(f"{flags} has no effect with {under}{reason}")

    def effective(self, in_play: InPlay) -> dict[str, Any]:
        """The settings that have an effect, flat and JSON-ready: what `config.json` holds."""
        idle = self.without_effect(in_play)
        every = {
            name: value
            for section in self.sections()
            for name, value in section.model_dump(mode="json").items()
        }
        return {name: value for name, value in every.items() if name not in idle}

    def restricted(self, in_play: InPlay, **changes: Any) -> Self:
        """The same run under another method: settings that would change nothing there are dropped."""
        changed = self.updated(**changes)
        idle = changed.without_effect(in_play)
        return self.of(**{name: value for name, value in changed.given.items() if name not in idle})


SECTIONS: dict[str, type[Section]] = {
    section.name: section.default_factory  # type: ignore[misc]
    for section in fields(RunConfig)
}
OWNERS: dict[str, type[Section]] = {
    name: section for section in SECTIONS.values() for name in section.model_fields
}
"""The section of every setting, by the setting's name, in the order of the flags."""


def field_of(name: str) -> FieldInfo:
    """Type, default and description of a setting."""
    return OWNERS[name].model_fields[name]


RENAMED = {"weights": "init_from"}
"""Settings that had another name, which files and runs of before still say."""


def renamed(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings under the names that they have now.

    Raises:
        ConfigError: one is there under both.
    """
    if both := [old for old, new in RENAMED.items() if old in settings and new in settings]:
        raise ConfigError(f"{both[0]} is the old name of {RENAMED[both[0]]}; give one of them")
    return {RENAMED.get(name, name): value for name, value in settings.items()}


def completed(settings: Mapping[str, Any], *, source: str) -> dict[str, Any]:
    """The settings of a saved run, with those at their defaults that came after it was written.

    What was in play is read off the settings themselves: a run with a reweighter says which.

    Raises:
        ConfigError: a value is not valid; the sentence names it and `source`.
    """
    settings = renamed(settings)
    uses = frozenset({"reweighter", "splitter"} & settings.keys())
    without_split = "optional" if "train_on" in settings else "none"
    split = "required" if "split" in settings else "start" if uses else without_split
    in_play = InPlay(split=split, uses=uses, split_needs=frozenset({"delta", "score"} & settings.keys()))
    known = {name: value for name, value in settings.items() if name in OWNERS}
    known.setdefault("preprocessing", "dataset")  # the one that there was then
    if settings.get("image_size") is not None:
        known.setdefault("crop_mode", "center")  # as images from files were tested then
    if settings.get("freeze_backbone"):
        known.setdefault("cache_features", False)  # images were augmented then
    if split == "start":  # the one way there was for MOLERE then
        known["split"] = NO_START
    try:
        return {**RunConfig.of(**known).effective(in_play), **settings}
    except ValidationError as error:
        raise ConfigError(explain_validation(error, known=OWNERS, source=source)) from error


def flag_name(field: str) -> str:
    """`train_on` -> `--train-on`."""
    return "--" + field.replace("_", "-")
