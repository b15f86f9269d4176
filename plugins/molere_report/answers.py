"""The first screen: four questions, answered by rule."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from molere_cli.report import GainKind, Result
from molere_report.gallery import Picture
from molere_report.study import Study
from molere_report.words import (
    MOST_ROWS,
    SIGNS,
    cost_sentence,
    counted,
    gain_sentence,
    worst_sentence,
)

if TYPE_CHECKING:
    from molere_report.study_view import StudyView

STRIP = 6
"""Pictures in an answer."""


@dataclass(frozen=True)
class Sentence:
    """About a row, or of all where it has no label; with a verdict's word and sign."""

    text: str
    label: str = ""
    word: str = ""
    sign: str = ""


@dataclass(frozen=True)
class Answer:
    """To one of the four questions."""

    question: str
    sentences: Sequence[Sentence]
    pictures: Sequence[Picture] = ()


def answers(found: Sequence[Study], shown: Sequence[StudyView], kind: GainKind) -> list[Answer]:
    """Did it help, for whom, at what cost, on which images."""
    return [
        Answer("Did it help?", _of_rows(found, lambda result: gain_sentence(result, kind), judged=True)),
        Answer("For whom?", _of_rows(found, lambda result: _for_whom(result, shown))),
        Answer("At what cost?", [*_of_rows(found, cost_sentence), *_split_costs(found)]),
        Answer("On which images?", _images(shown), _strip(shown)),
    ]


def _of_rows(
    found: Sequence[Study], sentence: Callable[[Result], str | None], *, judged: bool = False
) -> list[Sentence]:
    results = [(study, result) for study in found for result in study.measured]
    made = []
    for study, result in results[:MOST_ROWS]:
        if (text := sentence(result)) is None:
            continue
        label = result.row.label if len(found) == 1 else f"{result.row.label}, {study.title}"
        word = result.verdict.word if judged and result.verdict is not None else ""
        made.append(Sentence(text, label, word, SIGNS.get(word, "")))
    if more := len(results) - MOST_ROWS:
        made += [Sentence(f"{counted(more, 'more row')} below")] if more > 0 else []
    return made or [Sentence("nothing is known: no row shares a seed with runs of ERM")]


def _for_whom(result: Result, shown: Sequence[StudyView]) -> str | None:
    parts = [sentence] if (sentence := worst_sentence(result)) is not None else []
    for row in (row for view in shown for row in view.subgroups if row.result is result):
        if row.num_seeds > 1 and row.num_fixed is not None and row.num_broken is not None:
            parts.append(
                f"fixes {row.num_fixed:,} test images in four of five seeds, breaks {row.num_broken:,}"
            )
    return "; ".join(parts) or None


def _split_costs(found: Sequence[Study]) -> list[Sentence]:
    settings = [result.row.settings for study in found for result in study.measured]
    needs = {
        "a split by hardness takes an ERM run more": any(each.get("score") for each in settings),
        "--split auto two or three": any(each.get("split") == "auto" for each in settings),
    }
    return [Sentence("training alone; " + ", ".join(needs_it))] if (needs_it := _true(needs)) else []


def _true(facts: Mapping[str, bool]) -> list[str]:
    return [text for text, holds in facts.items() if holds]


def _images(shown: Sequence[StudyView]) -> list[Sentence]:
    sentences = []
    for view in shown:
        label = view.title if len(shown) > 1 else ""
        if view.hard is not None:
            sentences.append(Sentence("the hardest of some classes; more below, class by class", label))
        if view.suspects is not None:
            sentences.append(Sentence(view.suspects.sentences[0], label))
        sentences += [Sentence(text, label) for text in view.findings[:1]]
    return sentences or [Sentence("no run has kept what its training examples looked like")]


def _strip(shown: Sequence[StudyView]) -> list[Picture]:
    for view in shown:
        if view.hard is not None:
            galleries = [[each for each in found.pictures if each.source] for found in view.hard.hardest]
            rounds = max(map(len, galleries), default=0)
            mixed = [found[turn] for turn in range(rounds) for found in galleries if turn < len(found)]
            return mixed[:STRIP]
    return []
