"""What pyproject.toml declares: all that is imported, in its place, with a lower bound and no upper one."""

from __future__ import annotations

import runpy
import subprocess
import sys
import tomllib
from collections.abc import Iterator

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from molere_cli_tests.layout import CORE, PLUGINS, ROOT, Import, imports_of, sources
from molere_cli_tests.programme.test_layering import FIRST_PARTY

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = PYPROJECT["project"]
BENCHMARKS, TESTS, DOCS, CI = ROOT / "benchmarks", ROOT / "molere_cli_tests", ROOT / "docs", ROOT / ".ci"
# The extras, beside the core's own dependencies, that may be imported there. An extra that the installed
# package does without is imported where it is used, so that only its user needs it.
EXTRAS = {
    CORE: (),
    PLUGINS: ("slurm", "huggingface", "trackio", "mlflow", "export", "report"),
    TESTS: ("dev",),
    DOCS: ("dev",),
    CI: ("dev",),
    BENCHMARKS: ("dev", "bench"),
}
# betty-ml is declared nowhere: newer pips refuse its metadata, and `make bench` goes on without it.
# Of MLflow the tests have the part without server and database, mlflow-skinny, under the same name.
UNDECLARED = {(BENCHMARKS, "betty-ml"), (TESTS, "mlflow")}
# What torch's ONNX exporter imports.
OF_TORCH = {"onnx", "onnxscript"}
DISTRIBUTIONS = {
    "PIL": "pillow",
    "vl_convert": "vl-convert-python",
    "betty": "betty-ml",
    "sklearn": "scikit-learn",
}
OURS = {"molere_cli", "molere_cli_tests", *FIRST_PARTY, *(file.stem for file in sources(BENCHMARKS))}


def names(requirements: list[str]) -> set[str]:
    return {canonicalize_name(Requirement(text).name) for text in requirements}


def extra(name: str) -> set[str]:
    return names(PROJECT["optional-dependencies"][name])


RUNTIME = names(PROJECT["dependencies"])


def third_party(folder) -> Iterator[tuple[Import, str]]:
    """(import, distribution it is from) for every import that is neither ours nor Python's."""
    for file in sources(folder):
        for found in imports_of(file):
            top = found.module.partition(".")[0]
            if top not in OURS and top not in sys.stdlib_module_names:
                yield found, DISTRIBUTIONS.get(top, canonicalize_name(top))


@pytest.mark.parametrize("folder", EXTRAS, ids=lambda folder: folder.name)
def test_all_that_is_imported_is_declared(folder):
    allowed = RUNTIME.union(*map(extra, EXTRAS[folder]))
    assert sources(folder)
    wrong = [
        f"{found} of {name}"
        for found, name in third_party(folder)
        if name not in allowed and (folder, name) not in UNDECLARED
    ]
    assert wrong == []


@pytest.mark.parametrize("folder", [CORE, PLUGINS], ids=lambda folder: folder.name)
def test_what_an_extra_brings_is_imported_only_where_it_is_used(folder):
    eager = [
        str(found)
        for found, name in third_party(folder)
        if name not in RUNTIME and not (found.lazy or found.typing)
    ]
    assert eager == []


def test_the_package_asks_for_nothing_that_it_does_not_import():
    imported = {name for folder in (CORE, PLUGINS) for _, name in third_party(folder)}
    extras = map(extra, ("huggingface", "export", "report", "slurm", "trackio", "mlflow"))
    assert imported | OF_TORCH == RUNTIME.union(*extras)


def test_every_dependency_has_one_lower_bound_and_no_upper_one():
    """`make check-lowest` installs these; `lowest` refuses any other form."""
    lowest = runpy.run_path(str(CI / "lowest.py"))
    pins = {Requirement(lowest["lowest"](text)).name for text in lowest["declared"]()}
    assert {"torch", "datasets", "pytest", "setuptools"} <= pins
    assert {canonicalize_name(pin) for pin in pins} == RUNTIME.union(
        *map(extra, ("huggingface", "export", "dev"))
    )


@pytest.mark.parametrize("requirement", ["numpy", "numpy==2.0", "numpy>=1.26,<3", "numpy>1", "numpy~=2.1"])
def test_a_dependency_without_one_plain_lower_bound_is_refused(requirement):
    lowest = runpy.run_path(str(CI / "lowest.py"))["lowest"]
    with pytest.raises(ValueError, match="must be one lower bound"):
        lowest(requirement)
    assert lowest("numpy>=1.26") == "numpy==1.26"


def test_setuptools_has_one_bound_for_building_and_testing():
    assert set(PYPROJECT["build-system"]["requires"]) <= set(PROJECT["optional-dependencies"]["dev"])


VULNERABLE = {"name": "p", "version": "1", "vulns": [{"id": "CVE-1", "fix_versions": ["1.1"]}]}
SOUND, UNKNOWN = {"name": "q", "version": "2", "vulns": []}, {"name": "r", "skip_reason": "r is not on PyPI"}


@pytest.mark.parametrize(
    ("found", "code", "lines"),
    [
        ([VULNERABLE, SOUND], 1, ["p 1: CVE-1, mended in 1.1", "2 packages audited, 1 with known"]),
        ([SOUND, UNKNOWN], 0, ["not audited: r is not on PyPI", "1 packages audited, 0 with known"]),
        (
            [UNKNOWN],
            0,
            ["audit skipped, nothing is known of vulnerabilities: the source knows none of the 1"],
        ),
    ],
)
def test_the_audit_fails_for_what_is_known_and_says_what_is_not(found, code, lines, capsys):
    assert runpy.run_path(str(CI / "audit.py"))["report"](found) == code
    said = capsys.readouterr().out.splitlines()
    assert [line[: len(start)] for line, start in zip(said, lines, strict=True)] == lines


def test_an_audit_without_its_source_is_skipped_in_a_sentence(monkeypatch, capsys):
    def out_of_reach(*_arguments, **_options):
        return subprocess.CompletedProcess(
            [], 1, stdout="", stderr="Traceback\nConnectionError: no network\n"
        )

    audit = runpy.run_path(str(CI / "audit.py"))
    monkeypatch.setitem(audit["main"].__globals__, "find_spec", lambda name: True)
    monkeypatch.setattr(subprocess, "run", out_of_reach)
    assert audit["main"]() == 0
    assert capsys.readouterr().out.endswith(
        "nothing is known of vulnerabilities: ConnectionError: no network\n"
    )
