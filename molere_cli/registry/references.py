"""Fields that hold what a plugin gives, or say where it is: `package.module:attribute`.

Such a string is resolved when the field is read, so that registering imports nothing heavy.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Iterator
from dataclasses import dataclass
from inspect import getattr_static
from typing import Any, ClassVar, Generic, TypeVar

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
        found: T = resolve(given) if isinstance(given, str) else given
        return found

    def __set__(self, spec: Spec, given: T | str) -> None:
        vars(spec)[self._name] = given

    def fits(self, found: Any) -> bool:
        """Whether something that was found can be what the field is for: a class like the default, else a
        callable or a number."""
        if isinstance(self._default, type):
            return isinstance(found, type) and issubclass(found, self._default)
        return callable(found) or isinstance(found, float)


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Spec:
    """What a plugin registers; `kind` is the word for it in messages."""

    kind: ClassVar[str]

    name: str
    description: str

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"

    def references(self) -> Iterator[tuple[str, str, Reference[Any]]]:
        """(field, string, its descriptor) for each field that says where its value is."""
        for field, given in vars(self).items():
            descriptor = getattr_static(type(self), field, None)
            if isinstance(given, str) and isinstance(descriptor, Reference):
                yield field, given, descriptor


def wrong_references(spec: Spec) -> Iterator[str]:
    """What is wrong with the strings of a record, a sentence each that goes on from the plugin's name."""
    for field, text, descriptor in spec.references():
        where = f"says {text!r} for {field} of its {spec.kind} {spec.name!r}"
        try:
            if not descriptor.fits(resolve(text)):
                yield f"{where}, which is something else"
        except (Exception, SystemExit) as error:
            yield f"{where}, which leads nowhere: {type(error).__name__}: {error}"
