"""The plugins: found by entry point, loaded one by one, asked by name.

A plugin that cannot be imported, implements a hook that does not exist, or registers a name twice is
recorded as a `PluginProblem` and warned about; the rest go on working. That two plugins offer one name is no
problem of either: it is told when somebody asks for that name.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from difflib import get_close_matches
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import pluggy

from molere_cli.foundation.errors import ConfigError
from molere_cli.registry import hookspecs
from molere_cli.registry.entries import Entry, KindRegistry, PluginWarning, chosen, unknown
from molere_cli.registry.hookspecs import PROJECT_NAME
from molere_cli.registry.references import wrong_references
from molere_cli.registry.specs import (
    BackboneFamily,
    BackboneSpec,
    DatasetSpec,
    MethodSpec,
    ReweighterSpec,
    SplitSpec,
    TrackerSpec,
    TransformSpec,
)


@dataclass(frozen=True)
class PluginProblem:
    """What is wrong with a plugin, in one sentence."""

    plugin: str
    message: str


@dataclass
class Registry:
    """Everything that plugins offer. `load_plugins()` makes one."""

    manager: pluggy.PluginManager
    backbones: KindRegistry[BackboneSpec] = field(default_factory=lambda: KindRegistry(BackboneSpec))
    families: KindRegistry[BackboneFamily] = field(default_factory=lambda: KindRegistry(BackboneFamily))
    datasets: KindRegistry[DatasetSpec] = field(default_factory=lambda: KindRegistry(DatasetSpec))
    transforms: KindRegistry[TransformSpec] = field(default_factory=lambda: KindRegistry(TransformSpec))
    splits: KindRegistry[SplitSpec] = field(default_factory=lambda: KindRegistry(SplitSpec))
    reweighters: KindRegistry[ReweighterSpec] = field(default_factory=lambda: KindRegistry(ReweighterSpec))
    methods: KindRegistry[MethodSpec] = field(default_factory=lambda: KindRegistry(MethodSpec))
    trackers: KindRegistry[TrackerSpec] = field(default_factory=lambda: KindRegistry(TrackerSpec))
    problems: list[PluginProblem] = field(default_factory=list)

    @property
    def kinds(self) -> tuple[KindRegistry[Any], ...]:
        return (
            *(self.backbones, self.families, self.datasets, self.transforms, self.splits),
            *(self.reweighters, self.methods, self.trackers),
        )

    def entries(self) -> Iterator[Entry[Any]]:
        """Everything that is registered, families as they are."""
        return (entry for of_kind in self.kinds for entry in of_kind.entries)

    def collisions(self) -> list[str]:
        """A sentence for every name that several plugins offer; members of families are not looked at."""
        return [sentence for of_kind in self.kinds for sentence in of_kind.collisions()]

    def backbone(self, name: str) -> BackboneSpec:
        """The backbone of that plain or prefixed name; a family's member becomes a spec of its own.

        Raises:
            UnknownNameError: nobody offers it, or several third parties do.
        """
        if found := [*self.backbones.named(name), *self._members(name)]:
            return chosen(self.backbones.kind, name, found).spec
        raise unknown(self.backbones.kind, name, self._known_backbones(name))

    def _members(self, name: str) -> list[Entry[BackboneSpec]]:
        """The members of families that go by the name: prefixed, with the plugin before that, or plain."""
        found = []
        for entry in self.families.entries:
            family, place = entry.spec, entry.spec.prefix
            if len(self.families.named(family.prefix)) > 1:
                place = entry.prefixed
            for start in (f"{family.prefix}:", f"{entry.prefixed}:", ""):
                member = name.removeprefix(start)
                # A prefixed name is asked of its own family alone: listing imports what the family is of.
                may_be = name.startswith(start) if start else family.plain_names and ":" not in name
                if may_be and (member in family.members() or family.has_also(member)):
                    found.append(Entry(family.member(member), place, entry.first_party))
        return found

    def _known_backbones(self, name: str) -> list[str]:
        """The names to compare an unknown one with: those of its prefix if it has one."""
        prefix = name.partition(":")[0]
        if own := [entry.spec for entry in self.families.entries if entry.spec.prefix == prefix != name]:
            return [f"{prefix}:{member}" for family in own for member in family.members()]
        known = [entry.spec.name for entry in self.backbones.entries]
        for entry in self.families.entries:
            start = "" if entry.spec.plain_names else f"{entry.spec.prefix}:"
            known += [f"{start}{member}" for member in entry.spec.members()]
        return known

    def split(self, text: str) -> tuple[SplitSpec, str | None]:
        """The split strategy that `NAME[:ARGUMENT]` names, and its argument.

        Raises:
            UnknownNameError: nobody offers it, or several third parties do.
            ConfigError: its argument is missing, or it takes none.
        """
        name, argument = text, ""
        for entry in () if self.splits.named(text) else self.splits.entries:
            for form in (entry.spec.name, entry.prefixed):
                if text.startswith(f"{form}:"):
                    name, argument = form, text.removeprefix(f"{form}:")
        spec = self.splits.get(name)
        if spec.argument and not argument:
            raise ConfigError(f"split strategy {name!r} needs an argument: {name}:{spec.argument}")
        if argument and not spec.argument:
            raise ConfigError(f"split strategy {name!r} takes no argument; got {argument!r} after the colon")
        return spec, argument or None

    def add(self, plugin: object, name: str, *, first_party: bool = False) -> None:
        """Register one plugin object; what is wrong with it goes into `problems`, nothing is raised."""
        before = len(self.problems)
        if self.manager.is_registered(plugin):
            self.problem(name, f"is the same plugin as {self.manager.get_name(plugin)}, which counts")
            return
        try:
            self.manager.register(plugin, name)
        except (pluggy.PluginValidationError, ValueError) as error:
            self.problem(name, f"cannot be registered: {error}")
            return
        for hook in self.manager.get_hookcallers(plugin) or []:
            if hook.spec is None:
                known = sorted(key for key in vars(hookspecs) if key.startswith("register_"))
                close = get_close_matches(hook.name, known, n=1)
                hint = f"; did you mean {close[0]!r}?" if close else f"; hooks: {', '.join(known)}"
                self.problem(name, f"has no hook {hook.name!r} to implement{hint}")
        if len(self.problems) > before:
            self.manager.unregister(plugin)
            return
        hooks: dict[str, tuple[KindRegistry[Any], ...]] = {
            "register_backbones": (self.backbones, self.families),
            "register_datasets": (self.datasets,),
            "register_transforms": (self.transforms,),
            "register_splits": (self.splits,),
            "register_reweighters": (self.reweighters,),
            "register_methods": (self.methods,),
            "register_trackers": (self.trackers,),
        }
        for hook_name, kinds in hooks.items():
            self.call(name, hook_name, register=self._keeper(kinds, name, first_party=first_party))

    def _keeper(
        self, kinds: tuple[KindRegistry[Any], ...], plugin: str, *, first_party: bool
    ) -> Callable[[Any], None]:
        def keep(spec: Any) -> None:
            of_kind = next((of_kind for of_kind in kinds if isinstance(spec, of_kind.record)), None)
            if of_kind is None:
                kind, record = kinds[0].kind, kinds[0].record.__name__
                raise TypeError(f"a {kind} is registered as a {record}, not {spec!r}")
            if any(entry.plugin == plugin for entry in of_kind.entries if entry.spec.name == spec.name):
                self.problem(plugin, f"registers the {of_kind.kind} {spec.name!r} twice; the first counts")
            else:
                owned = spec if first_party else spec.of(plugin)
                of_kind.entries.append(Entry(owned, plugin, first_party))

        return keep

    def plugins(self) -> list[str]:
        """The names of the plugins that have been added, in that order."""
        return [name for name, plugin in self.manager.list_name_plugin() if plugin is not None]

    def call(self, plugin: str, hook_name: str, **arguments: Any) -> None:
        """Call a plugin's hook if it has it; what it raises goes into `problems`."""
        implementation = getattr(self.manager.get_plugin(plugin), hook_name, None)
        if implementation is None:
            return
        # Plugins are called one by one, not through pluggy's fan-out, so that one that raises
        # does not silence the others.
        try:
            implementation(**arguments)
        except (Exception, SystemExit) as error:
            self.problem(plugin, f"failed in {hook_name}: {type(error).__name__}: {error}")

    def problem(self, plugin: str, message: str) -> None:
        """Record what is wrong with a plugin, and warn of it."""
        problem = PluginProblem(plugin, " ".join(message.split()))
        self.problems.append(problem)
        warnings.warn(f"plugin {problem.plugin} {problem.message}", PluginWarning, stacklevel=2)

    def load(self, entry: EntryPoint, *, first_party: bool = False) -> None:
        """Load one entry point; a failure goes into `problems`."""
        if self.manager.has_plugin(entry.name):
            self.problem(entry.name, f"is installed twice; {entry.value} is left out")
            return
        try:
            plugin = entry.load()
        except (Exception, SystemExit) as error:
            self.problem(entry.name, f"failed to import: {type(error).__name__}: {error}")
            return
        self.add(plugin, entry.name, first_party=first_party)

    def check(self) -> None:
        """Resolve every string that says where something is; a wrong one is a problem of its plugin.

        This imports all that plugins offer, torch included.
        """
        for entry in self.entries():
            for message in wrong_references(entry.spec):
                self.problem(entry.plugin, message)


def empty_registry() -> Registry:
    """A registry with the hooks and no plugin; tests and embedders start here."""
    manager = pluggy.PluginManager(PROJECT_NAME)
    manager.add_hookspecs(hookspecs)
    return Registry(manager)


def load_plugins() -> Registry:
    """A registry with every installed plugin of the entry-point group `molere`: first those of the core's own
    distribution, whose names nobody can take, then the others, in name order."""
    registry = empty_registry()
    entries = entry_points(group=PROJECT_NAME)
    # Asked once for each distribution: the name is read from all of its metadata.
    ours = {dist for dist in {entry.dist for entry in entries} if dist and dist.name == PROJECT_NAME}
    for entry in sorted(entries, key=lambda entry: (entry.dist not in ours, entry.name)):
        registry.load(entry, first_party=entry.dist in ours)
    return registry
