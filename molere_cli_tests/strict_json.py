"""JSON read as the standard has it, to see that what was written is."""

from __future__ import annotations

import json

from molere_cli.runs.run_directory import RunDir


def strict(text: str):
    """JSON as the standard has it."""

    def refuse(constant):
        raise AssertionError(f"{constant} in {text[:200]}")

    return json.loads(text, parse_constant=refuse)


def check_json_of(run: RunDir) -> None:
    files = [path for path in run.path.rglob("*.json*") if path.is_file()]
    assert {path.name for path in files} == {
        *("config.json", "environment.json", "metrics.jsonl", "state.json")
    }
    for path in files:
        text = path.read_text()
        for part in text.splitlines() if path.suffix == ".jsonl" else [text]:
            strict(part)
