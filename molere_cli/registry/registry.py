"""The plugins: found by entry point, loaded one by one, asked by name.

A plugin that cannot be imported, implements a hook that does not exist, or registers a name twice is
recorded as a `PluginProblem` and warned about; the rest go on working.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from difflib import get_close_matches
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, TypeVar

import pluggy

from molere_cli.errors import ConfigError, UnknownNameError
from molere_cli.registry import hookspecs
from molere_cli.registry.hookspecs import PROJECT_NAME
from molere_cli.registry.specs import (
    BackboneFamily,
    BackboneRequest,
    BackboneSpec,
    DatasetSpec,
    MethodSpec,
    ReweighterSpec,
    SplitSpec,
)

SpecT = TypeVar("SpecT", BackboneSpec, DatasetSpec, SplitSpec, ReweighterSpec, MethodSpec)


class PluginWarning(UserWarning):
    """A plugin, or part of one, is left out."""


@dataclass(frozen=True)
class PluginProblem:
    """What is wrong with a plugin, in one sentence."""

    plugin: str
    message: str


@dataclass(frozen=True)
class Offer(Generic[SpecT]):
    """A registered record and the plugin it came from."""

    spec: SpecT
    plugin: str

    @property
    def prefixed(self) -> str:
        return f"{self.plugin}:{self.spec.name}"


@dataclass
class Shelf(Generic[SpecT]):
    """All offers of one kind; `kind` is the word for it in messages."""

    kind: str
    record: type[SpecT]
    offers: list[Offer[SpecT]] = field(default_factory=list)

    def named(self, name: str) -> list[Offer[SpecT]]:
        return [offer for offer in self.offers if name in {offer.spec.name, offer.prefixed}]

    def get(self, name: str) -> SpecT:
        """The record of that plain or prefixed (`plugin:name`) name.

        Raises:
            UnknownNameError: no plugin offers it (with the nearest names), or several do.
        """
        found = self.named(name)
        if len(found) == 1:
            return found[0].spec
        if found:
            raise ambiguous(self.kind, name, [offer.prefixed for offer in found])
        raise unknown(self.kind, name, [offer.spec.name for offer in self.offers])


def unknown(kind: str, name: str, known: Iterable[str]) -> UnknownNameError:
    """The error for a name nobody registered, with what comes nearest."""
    known = sorted(set(known))
    if close := get_close_matches(name, known, n=3, cutoff=0.6):
        return UnknownNameError(f"unknown {kind} {name!r}; did you mean {_either(close)}?")
    listed = ", ".join(known) if len(known) <= 20 else f"{len(known)} names; see `molere plugins`"
    return UnknownNameError(f"unknown {kind} {name!r}; known: {listed or 'none'}")


def ambiguous(kind: str, name: str, forms: Iterable[str]) -> UnknownNameError:
    """The error for a plain name that several plugins offer."""
    return UnknownNameError(f"{kind} {name!r} is offered more than once; say which: {', '.join(forms)}")


def _either(names: list[str]) -> str:
    return " or ".join(repr(name) for name in names)


@dataclass
class Registry:
    """Everything that plugins offer. `load_plugins()` makes one."""

    manager: pluggy.PluginManager
    backbones: Shelf[BackboneSpec] = field(default_factory=lambda: Shelf("backbone", BackboneSpec))
    families: list[tuple[BackboneFamily, str]] = field(default_factory=list)
    datasets: Shelf[DatasetSpec] = field(default_factory=lambda: Shelf("dataset", DatasetSpec))
    splits: Shelf[SplitSpec] = field(default_factory=lambda: Shelf("split strategy", SplitSpec))
    reweighters: Shelf[ReweighterSpec] = field(default_factory=lambda: Shelf("reweighter", ReweighterSpec))
    methods: Shelf[MethodSpec] = field(default_factory=lambda: Shelf("method", MethodSpec))
    problems: list[PluginProblem] = field(default_factory=list)

    def backbone(self, name: str) -> BackboneSpec:
        """The backbone of that plain or prefixed name; a family's member becomes a spec of its own.

        Raises:
            UnknownNameError: nobody offers it, or several do.
        """
        prefix, _, member = name.partition(":")
        for family, _plugin in self.families:
            if family.prefix == prefix and member:
                if member not in family.list_names():
                    raise unknown("backbone", name, [f"{prefix}:{known}" for known in family.list_names()])
                return family_member(family, member)
        singles = self.backbones.named(name)
        plain = [family for family, _plugin in self.families if family.plain_names]
        members = [family for family in plain if name in family.list_names()]
        if len(singles) + len(members) > 1:
            forms = [offer.prefixed for offer in singles]
            raise ambiguous("backbone", name, forms + [f"{family.prefix}:{name}" for family in members])
        if singles:
            return singles[0].spec
        if members:
            return family_member(members[0], name)
        known = [offer.spec.name for offer in self.backbones.offers]
        for family, _plugin in self.families:
            prefix = "" if family.plain_names else f"{family.prefix}:"
            known += [f"{prefix}{member}" for member in family.list_names()]
        raise unknown("backbone", name, known)

    def split(self, text: str) -> tuple[SplitSpec, str | None]:
        """The split strategy that `NAME[:ARGUMENT]` names, and its argument.

        Raises:
            UnknownNameError: nobody offers it, or several do.
            ConfigError: its argument is missing, or it takes none.
        """
        name, argument = text, ""
        for offer in () if self.splits.named(text) else self.splits.offers:
            for form in (offer.spec.name, offer.prefixed):
                if text.startswith(f"{form}:"):
                    name, argument = form, text.removeprefix(f"{form}:")
        spec = self.splits.get(name)
        if spec.argument and not argument:
            raise ConfigError(f"split strategy {name!r} needs an argument: {name}:{spec.argument}")
        if argument and not spec.argument:
            raise ConfigError(f"split strategy {name!r} takes no argument; got {argument!r} after the colon")
        return spec, argument or None

    def add(self, plugin: object, name: str) -> None:
        """Register one plugin object; what is wrong with it goes into `problems`, nothing is raised."""
        before = len(self.problems)
        if self.manager.is_registered(plugin):
            self._problem(name, f"is the same plugin as {self.manager.get_name(plugin)}, which counts")
            return
        try:
            self.manager.register(plugin, name)
        except (pluggy.PluginValidationError, ValueError) as error:
            self._problem(name, f"cannot be registered: {error}")
            return
        for hook in self.manager.get_hookcallers(plugin) or []:
            if hook.spec is None:
                known = sorted(key for key in vars(hookspecs) if key.startswith("register_"))
                close = get_close_matches(hook.name, known, n=1)
                hint = f"; did you mean {close[0]!r}?" if close else f"; hooks: {', '.join(known)}"
                self._problem(name, f"has no hook {hook.name!r} to implement{hint}")
        if len(self.problems) > before:
            self.manager.unregister(plugin)
            return
        for hook_name, keep in self._keepers(name).items():
            self._call(plugin, name, hook_name, keep)

    def _keepers(self, plugin: str) -> dict[str, Callable[[Any], None]]:
        shelves: dict[str, Shelf[Any]] = {
            "register_datasets": self.datasets,
            "register_splits": self.splits,
            "register_reweighters": self.reweighters,
            "register_methods": self.methods,
        }
        keepers = {hook: self._keeper(shelf, plugin) for hook, shelf in shelves.items()}
        keep_single = self._keeper(self.backbones, plugin)

        def keep_backbone(spec: BackboneSpec | BackboneFamily) -> None:
            if not isinstance(spec, BackboneFamily):
                keep_single(spec)
            elif any(family.prefix == spec.prefix for family, _ in self.families):
                self._problem(plugin, f"registers the backbone family {spec.prefix!r}, which is taken")
            else:
                self.families.append((spec, plugin))

        return {"register_backbones": keep_backbone, **keepers}

    def _keeper(self, shelf: Shelf[Any], plugin: str) -> Callable[[Any], None]:
        def keep(spec: Any) -> None:
            if not isinstance(spec, shelf.record):
                raise TypeError(f"a {shelf.kind} is registered as a {shelf.record.__name__}, not {spec!r}")
            others = [offer.plugin for offer in shelf.offers if offer.spec.name == spec.name]
            if plugin in others:
                self._problem(plugin, f"registers the {shelf.kind} {spec.name!r} twice; the first counts")
                return
            if others:
                self._problem(
                    plugin,
                    f"registers the {shelf.kind} {spec.name!r}, which {others[0]} offers too; "
                    f"ask for {plugin}:{spec.name} or {others[0]}:{spec.name}",
                )
            shelf.offers.append(Offer(spec, plugin))

        return keep

    def _call(self, plugin: object, name: str, hook_name: str, keep: Callable[[Any], None]) -> None:
        implementation = getattr(plugin, hook_name, None)
        if implementation is None:
            return
        # Plugins are called one by one, not through pluggy's fan-out, so that one that raises
        # does not silence the others.
        try:
            implementation(register=keep)
        except Exception as error:
            self._problem(name, f"failed in {hook_name}: {type(error).__name__}: {error}")

    def _problem(self, plugin: str, message: str) -> None:
        message = " ".join(message.split())
        self.problems.append(PluginProblem(plugin, message))
        warnings.warn(f"plugin {plugin} {message}", PluginWarning, stacklevel=2)

    def load(self, entry: EntryPoint) -> None:
        """Load one entry point; a failure goes into `problems`."""
        if self.manager.has_plugin(entry.name):
            self._problem(entry.name, f"is installed twice; {entry.value} is left out")
            return
        try:
            plugin = entry.load()
        except Exception as error:
            self._problem(entry.name, f"failed to import: {type(error).__name__}: {error}")
            return
        self.add(plugin, entry.name)


def family_member(family: BackboneFamily, name: str) -> BackboneSpec:
    """One member of a family, as if it had been registered singly."""

    def build(request: BackboneRequest) -> Any:
        return family.build(name, request)

    return BackboneSpec(name=name, description=family.description, build=build, options=family.options)


def empty_registry() -> Registry:
    """A registry with the hooks and no plugin; tests and embedders start here."""
    manager = pluggy.PluginManager(PROJECT_NAME)
    manager.add_hookspecs(hookspecs)
    return Registry(manager)


def load_plugins() -> Registry:
    """A registry with every installed plugin of the entry-point group `molere`, in name order."""
    registry = empty_registry()
    for entry in sorted(entry_points(group=PROJECT_NAME), key=lambda entry: entry.name):
        registry.load(entry)
    return registry
