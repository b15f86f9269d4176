"""Names of a package that are imported when they are first asked for."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any


def lazy_names(package: str, modules: Mapping[str, str]) -> Callable[[str], Any]:
    """The package's `__getattr__`.

    Args:
        modules: the names, with spaces between, by the module below `molere_cli` that has them; of a package,
            its modules.
    """
    places = {name: f"molere_cli.{module}" for module, names in modules.items() for name in names.split()}

    def get(name: str) -> Any:
        if name not in places:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module = importlib.import_module(places[name])
        return (
            getattr(module, name)
            if hasattr(module, name)
            else importlib.import_module(f".{name}", places[name])
        )

    return get
