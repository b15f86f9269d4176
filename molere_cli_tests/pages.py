"""Runs for tests of the page: with groups, with names that are markup, with wrong labels."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

from molere_report.report_page import report

from molere_cli.api.run_schedule import train_runs
from molere_cli.config.run_config import RunConfig
from molere_cli.foundation.progress import NoProgress
from molere_cli_tests.reliability.test_strangers import REGISTRY, draw

HOSTILE = ("<script>alert(1)<", '"><img src=x onerror=alert(1)>', "{{ 7 * 7 }} & café")
COMMON = {"batch_size": 16, "workers": 0, "precision": "fp32", "device": "cpu"}
ERM = {"method": "erm"}
HARD = {"method": "lrw", "split": "hard"}


def train(root: Path, *rows: dict, seeds=(0, 1), **settings) -> Path:
    """Runs of these rows under `root / runs`; the folder."""
    for row in rows:
        config = RunConfig.of(**COMMON, **settings, **row)
        list(train_runs(config, list(seeds), REGISTRY, runs=root / "runs", progress=NoProgress()))
    return root / "runs"


def with_groups(root: Path) -> Path:
    data = {"dataset": "colour-digits", "dataset_option": {"rho": "0.9"}, "limit_train": 300}
    return train(root, ERM, HARD, **data, epochs=6, eval_interval=2)


def hostile(root: Path) -> Path:
    # A slash ends a folder's name, and so no name can hold a whole closing tag.
    draw(root / "photos" / "train", *HOSTILE, count=8)
    draw(root / "photos" / "test", *HOSTILE, count=3, first=8)
    data = {"dataset": f"folder:{root / 'photos'}", "image_size": 8}
    return train(root, ERM, HARD, **data, epochs=2)


def noisy(root: Path) -> Path:
    data = {"dataset": "digits", "limit_train": 400, "label_noise": "uniform", "noise_rate": 0.3}
    rows = [ERM, {**HARD, "score": "oof-margin", "folds": 2}]
    return train(root, *rows, seeds=[0], **data, epochs=4)


def page_of(runs: Path, out: Path, **options) -> str:
    report([], runs=runs, out=out, command="molere report <x>", **options)
    return out.read_text(encoding="utf-8")


class Elements(HTMLParser):
    """Every element of a page: tag, attributes and text directly in it."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None], list[str]]] = []
        self._open: list[int] = []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs), []))
        if tag not in {"meta", "img", "input", "br", "link"}:
            self._open.append(len(self.found) - 1)

    def handle_endtag(self, tag):
        while self._open and self.found[self._open.pop()][0] != tag:
            pass

    def handle_data(self, data):
        if self._open:
            self.found[self._open[-1]][2].append(data)

    def of(self, tag: str) -> list[tuple[dict[str, str | None], str]]:
        return [(attributes, "".join(text)) for name, attributes, text in self.found if name == tag]

    def by_id(self, identity: str) -> str:
        [text] = ["".join(text) for _, attributes, text in self.found if attributes.get("id") == identity]
        return text

    def text(self) -> str:
        quiet = {"script", "style"}
        parts = [piece for tag, _, text in self.found if tag not in quiet for piece in text]
        return re.sub(r"\s+", " ", " ".join(parts))
