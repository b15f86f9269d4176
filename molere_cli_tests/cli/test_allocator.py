"""Freed memory is kept where nobody has said otherwise."""

from __future__ import annotations

import ctypes
import sys
from types import SimpleNamespace

import pytest

from molere_cli.foundation.allocator import OWN_SETTINGS, keep_freed_memory

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the C library of Linux is meant")


@pytest.fixture
def asked(monkeypatch) -> list[tuple[int, int]]:
    """What is asked of the C library."""
    for name in OWN_SETTINGS:
        monkeypatch.delenv(name, raising=False)
    calls: list[tuple[int, int]] = []
    library = SimpleNamespace(mallopt=lambda *option: calls.append(option))
    monkeypatch.setattr(ctypes, "CDLL", lambda _name: library)
    return calls


def test_thresholds_are_raised(asked):
    keep_freed_memory()
    assert asked == [(-3, 2**30), (-1, 2**31 - 1)]


@pytest.mark.parametrize("name", sorted(OWN_SETTINGS))
def test_the_users_own_settings_count(name, asked, monkeypatch):
    monkeypatch.setenv(name, "1")
    keep_freed_memory()
    assert asked == []


def test_another_c_library_has_no_such_thing(monkeypatch, asked):
    monkeypatch.setattr(ctypes, "CDLL", lambda _name: SimpleNamespace())
    keep_freed_memory()
    assert asked == []


def test_the_command_line_does_so(molere, monkeypatch):
    called = []
    monkeypatch.setattr("molere_cli.commands.app.keep_freed_memory", lambda: called.append(True))
    assert molere("--version").code == 0 and called == [True]
