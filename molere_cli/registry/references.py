"""What every record of an offer is, and fields that hold what a plugin gives or say where it is.

A string `package.module:attribute` is resolved when the field is read, so that registering imports nothing
heavy. What a third party's plugin does wrong becomes a PluginError; a mistake of our own keeps its traceback.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, field
from inspect import getattr_static
from typing import Any, ClassVar, Generic, Self, TypeVar, cast

from molere_cli.foundation.errors import MolereError, PluginError
from molere_cli.foundation.stopping import Ended

T = TypeVar("T")


def resolve(text: str) -> Any:
    """What stands at `package.module:attribute`; the attribute may have dots in it.

    Raises:
        ValueError: the text is of another form.
        ImportError, AttributeError: there is no such module, or nothing of that name in it.
    """
    module, _, attribute = text.partition(":")
    if not module or not attribute:
        raise ValueError(f"{text!r} is not of the form package.module:attribute")
    return pkgutil.resolve_name(text)


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Spec:
    """What a plugin registers.

    kind: the word for it in messages. plugin: the third party's plugin that it is of; None for our own, and
    for what is not registered.
    """

    kind: ClassVar[str]

    name: str
    description: str
    plugin: str | None = field(default=None, init=False)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"

    def of(self, plugin: str | None) -> Self:
        """The same record as one of that plugin's."""
        owned = copy(self)  # dataclasses.replace would read, and so resolve, every field
        object.__setattr__(owned, "plugin", plugin)
        return owned

    def error(self, what: str) -> Exception:
        """That it does, or gives, what it should not: a PluginError, or for our own what keeps a traceback.

        Args:
            what: the sentence from its verb on.
        """
        sentence = f"{self.kind} {self.name!r} {' '.join(what.split())}"
        if self.plugin is None:
            return TypeError(sentence)
        return PluginError(f"plugin {self.plugin}: {sentence}")

    @contextmanager
    def watched(self, hook: str) -> Iterator[None]:
        """Turn what a third party's code raises within the block into a PluginError that names the hook; its
        MolereErrors pass, and what ends the command."""
        try:
            yield
        except (Exception, SystemExit) as error:
            if self.plugin is None or isinstance(error, MolereError | Ended):
                raise
            raise self.error(f"failed in {hook}: {type(error).__name__}: {error}") from error

    def expected(self, given: T, kind: type, *, hook: str) -> T:
        """What a hook gave, if it is of that kind.

        Raises:
            PluginError: it is not, and a third party's.
        """
        if not isinstance(given, kind):
            name = "None" if given is None else type(given).__name__
            raise self.error(f"gave {name} from {hook}, not a {kind.__name__}")
        return given

    def references(self) -> Iterator[tuple[str, str, Reference[Any]]]:
        """(field, string, its descriptor) for each field that says where its value is."""
        for name, given in vars(self).items():
            descriptor = getattr_static(type(self), name, None)
            if isinstance(given, str) and isinstance(descriptor, Reference):
                yield name, given, descriptor


class Reference(Generic[T]):
    """A field of a `Spec`: set to a `T` or to where one is, read as the `T` itself."""

    def __init__(self, default: T | None = None) -> None:
        self._default = default

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, spec: Spec | None, owner: type | None = None) -> T:
        if spec is None:
            # So dataclasses learn the default; an AttributeError says that there is none.
            if self._default is None:
                raise AttributeError(self._name)
            return self._default
        given: T | str = vars(spec)[self._name]
        if not isinstance(given, str):
            return given
        with spec.watched(f"the import of {given!r}"):
            found = resolve(given)
        if not self.fits(found):
            raise spec.error(f"says {given!r} for {self._name}, which is something else")
        return cast(T, found)

    def __set__(self, spec: Spec, given: T | str) -> None:
        if not (isinstance(given, str) or self.fits(given)):
            raise TypeError(f"{self._name} is {given!r}, which is something else")
        vars(spec)[self._name] = given

    def fits(self, found: Any) -> bool:
        """Whether a value can be what the field is for: a class like the default, else what can be called, or
        a number."""
        if isinstance(self._default, type):
            return isinstance(found, type) and issubclass(found, self._default)
        return callable(found) or isinstance(found, int | float)


class Call(Reference[T]):
    """A field that is called, and watched in the call."""

    def __get__(self, spec: Spec | None, owner: type | None = None) -> T:
        found = super().__get__(spec, owner)
        if spec is None or spec.plugin is None or not callable(found):
            return found

        def watched(*arguments: Any, **named: Any) -> Any:
            with spec.watched(self._name):
                return found(*arguments, **named)

        return cast(T, watched)


def wrong_references(spec: Spec) -> Iterator[str]:
    """What is wrong with the strings of a record, a sentence each that goes on from the plugin's name."""
    for name, text, descriptor in spec.references():
        where = f"says {text!r} for {name} of its {spec.kind} {spec.name!r}"
        try:
            if not descriptor.fits(resolve(text)):
                yield f"{where}, which is something else"
        except (Exception, SystemExit) as error:
            yield f"{where}, which leads nowhere: {type(error).__name__}: {error}"
