"""Print the lowest version of every dependency that pyproject.toml allows, a pip constraint a line.

`make check-lowest` installs them. The peers of `bench` are left out: the tests run none of them.
"""

from __future__ import annotations

import tomllib
from pathlib import Path

from packaging.requirements import Requirement

PYPROJECT = Path(__file__).parents[1] / "pyproject.toml"


def declared(pyproject: Path = PYPROJECT) -> list[str]:
    """What building, running and testing need."""
    table = tomllib.loads(pyproject.read_text(encoding="utf-8"))
    project = table["project"]
    extras = project["optional-dependencies"]
    needed = [
        *table["build-system"]["requires"],
        *project["dependencies"],
        *extras["huggingface"],
        *extras["dev"],
    ]
    return sorted(set(needed))


def lowest(requirement: str) -> str:
    """`torch>=2.7` -> `torch==2.7`, which is 2.7.0.

    Raises:
        ValueError: it is not one lower bound.
    """
    parsed = Requirement(requirement)
    bounds = [bound.version for bound in parsed.specifier if bound.operator == ">="]
    if len(bounds) != 1 or len(parsed.specifier) != 1:
        raise ValueError(f"{PYPROJECT}: {requirement!r} must be one lower bound, as NAME>=VERSION")
    return f"{parsed.name}=={bounds[0]}"


if __name__ == "__main__":
    print(*map(lowest, declared()), sep="\n")
