"""`molere report`: what the page says, that it says it safely, and what it does with what cannot be read."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import json
import re
import shutil
import time
from urllib.parse import unquote

import numpy as np
import pyarrow as pa
import pytest
import torch
from molere_report import drawing, words
from molere_report.subgroups import gains_by_subgroup
from molere_report.suspects import find_suspects
from PIL import Image

from molere_cli.data.thumbnails import thumbnail
from molere_cli.foundation.errors import ConfigError, RunError
from molere_cli.report import compare_runs, find_runs
from molere_cli.runs import gallery_choice
from molere_cli.runs.run_directory import RunDir
from molere_cli.runs.run_tables import POOL, write_pool, write_thumbnails
from molere_cli_tests import pages
from molere_cli_tests.fake_runs import erm_run, lrw_run, molere_run
from molere_cli_tests.pages import HOSTILE, Elements, page_of

SECTIONS = ["help", "whom", "hard", "weights", "suspects", "classes", "training", "provenance"]


@pytest.fixture(scope="module")
def with_groups(tmp_path_factory):
    return pages.with_groups(tmp_path_factory.mktemp("groups"))


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    return pages.hostile(tmp_path_factory.mktemp("hostile"))


@pytest.fixture(scope="module")
def noisy(tmp_path_factory):
    return pages.noisy(tmp_path_factory.mktemp("noisy"))


@pytest.fixture(scope="module")
def page(with_groups, tmp_path_factory):
    return page_of(with_groups, tmp_path_factory.mktemp("page") / "report.html")


@pytest.fixture(scope="module")
def elements(page):
    return Elements(page)


def numbers_of(elements) -> dict:
    return json.loads(elements.by_id("molere-json"))


# --- what it says


def test_the_sections_stand_in_their_order(elements):
    ids = [attributes.get("id") for attributes, _ in elements.of("section")]
    assert [each for each in ids if each in SECTIONS] == SECTIONS
    questions = [text for _, text in elements.of("h2")][:4]
    assert questions == ["Did it help?", "For whom?", "At what cost?", "On which images?"]
    assert len(elements.of("h1")) == 1


def test_its_numbers_are_those_of_the_comparison(with_groups, elements):
    comparison = compare_runs(find_runs(with_groups), test_set=None)
    found = numbers_of(elements)
    assert [(row["label"], row["test_set"]) for row in found["rows"]] == [
        (result.row.label, result.test_set) for result in comparison.results
    ]
    by_name = {(result.row.label, result.test_set): result for result in comparison.results}
    for row in found["rows"]:
        result = by_name[row["label"], row["test_set"]]
        assert row["accuracy"]["mean"] == result.accuracy.mean
        assert (row["gain"] or {}).get("mean") == (result.gain.mean if result.gain else None)
    hard = by_name["LRW-Hard", "test"]
    assert f"{hard.gain.mean:+.2f} [{hard.gain.low:+.2f}, {hard.gain.high:+.2f}]" in elements.text()
    [study] = found["looked_into"]
    subgroups = gains_by_subgroup(hard)
    assert [part["gain"]["mean"] for part in study["for_whom"]["LRW-Hard"]["groups"]] == [
        part.gain.mean for part in subgroups.groups
    ]
    assert len(study["for_whom"]["LRW-Hard"]["fixed"]) == len(subgroups.fixed)


def test_pictures_are_those_of_the_runs(with_groups, elements):
    import pyarrow.parquet as pq

    erm = RunDir(with_groups / "colour-digits-erm-s0")
    kept = {base64.b64encode(row["webp"]).decode() for row in pq.read_table(erm.thumbnails_path).to_pylist()}
    images = elements.of("img")
    assert len(images) > 40
    start = "data:image/webp;base64,"
    assert all(attributes["src"].startswith(start) and attributes["alt"] for attributes, _ in images)
    assert sum(attributes["src"].removeprefix(start) in kept for attributes, _ in images) > 40
    webp = base64.b64decode(images[0][0]["src"].removeprefix(start))
    assert Image.open(io.BytesIO(webp)).size == (8, 8)
    pool = {row["index"]: row for row in pq.read_table(erm.pool_path).to_pylist()}
    hardest = min(pool.values(), key=lambda row: row["aum"])
    sentence = f"given {hardest['label']}, predicted {hardest['prediction']}, AUM {hardest['aum']:.2f}"
    assert sentence in [attributes["alt"] for attributes, _ in images]


def test_what_is_skipped_is_named(with_groups, tmp_path):
    runs = tmp_path / "runs"
    shutil.copytree(with_groups, runs)
    (runs / "notes.txt").write_text("mine")
    (runs / "foreign").mkdir()
    (runs / "foreign" / "config.json").write_text("{")
    (runs / "colour-digits-lrw-s1" / "DONE").unlink()
    broken = runs / "colour-digits-erm-s0" / "thumbnails.parquet"
    broken.write_bytes(b"PAR1")
    report = tmp_path / "report.html"
    text = Elements(page_of(runs, report)).text()
    for name in ("foreign", "colour-digits-lrw-s1", "colour-digits-erm-s0/thumbnails.parquet"):
        assert str(runs / name) in text
    assert "What is not in this page" in text


def test_a_run_without_pictures_has_a_page_without(tmp_path):
    data = {"dataset": "digits", "limit_train": 200, "epochs": 2, "thumbnails": False}
    runs = pages.train(tmp_path, pages.ERM, pages.HARD, **data)
    elements = Elements(page_of(runs, tmp_path / "report.html"))
    assert elements.of("img") == []
    assert "no picture kept" in elements.text()


def test_runs_of_before_have_a_page_with_what_there_is(tmp_path):
    """Run directories without any table."""
    for seed in range(3):
        erm_run(tmp_path / "runs" / f"erm{seed}", 0.5, config={"seed": seed})
        lrw_run(tmp_path / "runs" / f"lrw{seed}", 0.6 + 0.01 * seed, config={"seed": seed})
    elements = Elements(page_of(tmp_path / "runs", tmp_path / "report.html"))
    assert "+11.00" in elements.text() and "pool.parquet cannot be read" in elements.text()


# --- suspects


def test_the_file_of_suspects_holds_the_right_rows(noisy, tmp_path):
    elements = Elements(page_of(noisy, tmp_path / "report.html"))
    [link] = [
        attributes for attributes, _ in elements.of("a") if attributes.get("download") == "suspects.csv"
    ]
    text = unquote(link["href"].removeprefix("data:text/csv;charset=utf-8,"))
    rows = list(csv.DictReader(io.StringIO(text)))
    found = find_suspects(RunDir(noisy / "digits-erm-s0"), RunDir(noisy / "digits-lrw-s0"))
    assert found.evidence == "out of fold"
    assert [int(row["index"]) for row in rows] == [each.index for each in found.examples]
    assert [row["given_label"] for row in rows] == [each.given_label for each in found.examples]
    wrong = found.precision[len(found.examples)]
    assert f"{wrong} of the first {len(found.examples)}" in elements.text()
    [study] = numbers_of(elements)["looked_into"]
    assert study["suspects"]["number"] == len(rows)


# --- safety


def test_names_are_text(hostile, tmp_path):
    html = page_of(hostile, tmp_path / "report.html")
    elements = Elements(html)
    assert [attributes for attributes, _ in elements.of("script")] == [
        {"type": "application/json", "id": "molere-json"},
        {},
    ]
    assert all(attributes["src"].startswith("data:image/webp") for attributes, _ in elements.of("img"))
    for name in HOSTILE:
        assert name in elements.text()
    assert "49" not in [text for _, text in elements.of("th")]
    assert "molere report <x>" in elements.text()
    classes = numbers_of(elements)["looked_into"][0]["for_whom"]["LRW-Hard"]["classes"]
    assert {part["name"] for part in classes} == set(HOSTILE)


def test_no_attribute_runs_or_fetches_anything(page, hostile, tmp_path):
    for html in (page, page_of(hostile, tmp_path / "report.html")):
        for tag, attributes, _ in Elements(html).found:
            for name, value in attributes.items():
                assert not name.startswith("on") and name != "style", (tag, name)
                if name in {"src", "href", "action", "srcset", "data"}:
                    assert value.startswith(("#", "data:")), (tag, name, value[:80])
        without_namespaces = html.replace("http://www.w3.org/2000/svg", "")
        assert "http:" not in without_namespaces.replace("http://www.w3.org/1999/xlink", "")
        assert "https:" not in html


def test_the_policy_allows_this_style_and_this_script_alone(page, elements):
    [policy] = [
        attributes["content"]
        for attributes, _ in elements.of("meta")
        if attributes.get("http-equiv") == "Content-Security-Policy"
    ]
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules["default-src"] == "'none'" and rules["img-src"] == "data:"
    for tag, rule in (("style", "style-src"), ("script", "script-src")):
        bodies = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        hashes = [base64.b64encode(hashlib.sha256(body.encode()).digest()).decode() for body in bodies]
        assert rules[rule] == f"'sha256-{hashes[0]}'" and len(bodies) == 1


def test_tables_have_captions_and_headings(elements):
    tables = elements.of("table")
    assert len(tables) == len(elements.of("caption")) > 5
    assert all(attributes.get("scope") in {"col", "row"} for attributes, _ in elements.of("th"))
    ids = [attributes["id"] for _, attributes, _ in elements.found if "id" in attributes]
    assert len(ids) == len(set(ids))
    labelled = [
        attributes["aria-labelledby"]
        for _, attributes, _ in elements.found
        if "aria-labelledby" in attributes
    ]
    assert set(labelled) <= set(ids)
    assert all(
        attributes["role"] == "img" and attributes["aria-label"] for attributes, _ in elements.of("svg")
    )


# --- words


def results(root, *, method=lrw_run, gains=(0.1, 0.11, 0.12)):
    for seed, gain in enumerate(gains):
        erm_run(root / f"erm{seed}", 0.5, config={"seed": seed})
        method(root / f"m{seed}", 0.5 + gain, config={"seed": seed})
    return compare_runs(find_runs(root)).results


def test_the_headline_follows_from_the_verdicts(tmp_path):
    assert words.headline(results(tmp_path / "a")) == "LRW-Hard is better than ERM"
    worse = results(tmp_path / "b", gains=(-0.1, -0.11, -0.12))
    assert words.headline(worse) == "LRW-Hard is worse than ERM"
    undecided = results(tmp_path / "c", gains=(-0.1, 0.1, 0.12))
    assert words.headline(undecided) == "Whether LRW-Hard is better than ERM is undecided"
    erm_run(tmp_path / "d" / "erm", 0.5)
    assert words.headline(compare_runs(find_runs(tmp_path / "d")).results).startswith("Nothing is known")
    results(tmp_path / "e")
    for seed in range(3):
        molere_run(tmp_path / "e" / f"molere{seed}", 0.5 - 0.01 * (seed - 1), config={"seed": seed})
    both = compare_runs(find_runs(tmp_path / "e")).results
    assert words.headline(both) == "Of 2 methods measured against ERM: 1 better, 1 undecided"


def test_a_gain_is_said_with_its_interval_its_seeds_and_its_verdict(tmp_path):
    [_, hard] = results(tmp_path, gains=(-0.1, 0.1, 0.12))
    sentence = words.gain_sentence(hard, "points")
    assert re.fullmatch(
        r"\+4\.00 \[-26\.\d\d, \+34\.\d\d\] points over 3 seeds: undecided \(\d+ more seeds\)", sentence
    )


def test_durations():
    assert [words.duration(s) for s in (3.44, 119.9, 121, 7199, 7300)] == [
        "3.4 s",
        "119.9 s",
        "2 min",
        "120 min",
        "2.0 h",
    ]


# --- the command


def test_the_command_writes_a_page_and_prints_its_path(with_groups, molere, in_tmp):
    done = molere(f"report {with_groups}/* -o mine.html".replace("*", "colour-digits-erm-s0"))
    assert (done.code, done.out) == (0, "mine.html\n")
    done = molere(f"report --runs {with_groups} --test-set tuning")
    assert (done.code, done.last_line) == (0, "report.html")
    [study] = numbers_of(Elements((in_tmp / "report.html").read_text()))["looked_into"]
    assert study["test_set"] == "tuning"
    assert {path.name for path in in_tmp.iterdir()} == {"mine.html", "report.html"}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("--test-set none", "no run has a test set 'none'; there are: test, tuning"),
        ("-o nowhere/deeper/report.html", ""),
    ],
)
def test_a_mistake_is_one_sentence(with_groups, molere, in_tmp, arguments, sentence):
    done = molere(f"report --runs {with_groups} {arguments}")
    if sentence:
        assert (done.code, done.out, done.err.count("\n")) == (1, "", 1) and sentence in done.err
    else:
        assert done.code == 0 and (in_tmp / "nowhere" / "deeper" / "report.html").exists()


def test_without_the_extra_it_is_one_sentence(with_groups, molere, in_tmp, monkeypatch):
    monkeypatch.setattr(drawing, "find_spec", lambda name: None if name == "jinja2" else name)
    done = molere(f"report --runs {with_groups}")
    assert (done.code, done.out, done.err.count("\n")) == (1, "", 1)
    assert "a report needs Jinja2; " in done.err and "pip install 'molere[report]'" in done.err
    assert not (in_tmp / "report.html").exists()


def test_no_runs_no_page(tmp_path):
    with pytest.raises((RunError, ConfigError), match="there is no run under"):
        page_of(tmp_path, tmp_path / "report.html")
    assert list(tmp_path.iterdir()) == []


# --- size


def test_many_runs_and_rows_stay_small(tmp_path):
    for number in range(500):
        pair = {"seed": number // 50, "lr": 0.01 * (1 + number % 50)}
        erm_run(tmp_path / "runs" / f"erm{number}", 0.5, config=pair)
        lrw_run(tmp_path / "runs" / f"hard{number}", 0.6 + 0.001 * (number // 50), config=pair)
    html = page_of(tmp_path / "runs", tmp_path / "report.html")
    assert len(html) < 20_000_000
    assert "rows that are only in the table" in Elements(html).text()


def test_pictures_have_a_budget(with_groups, tmp_path, monkeypatch):
    from molere_report import gallery

    monkeypatch.setattr(gallery, "MAX_BYTES", 5000)
    elements = Elements(page_of(with_groups, tmp_path / "report.html"))
    images = elements.of("img")
    # Those of the first screen are shown again below.
    assert 0 < sum(len(attributes["src"]) for attributes, _ in images) <= 2 * 5000
    assert re.search(r"\d+ pictures, so that the page stays small", elements.text())


@pytest.mark.slow
def test_a_million_examples_stay_small_and_quick(tmp_path):
    """Pictures of noise, each as large as one may be, and every column that a run writes."""
    size, num_classes = 1_000_000, 1000
    generator = np.random.default_rng(0)
    label = generator.integers(num_classes, size=size)
    score = {
        name: pa.array(generator.uniform(-1, 1, size).astype(np.float32))
        for name in [field.name for field in POOL if pa.types.is_floating(field.type)]
    }
    columns = {field.name: score.get(field.name, pa.nulls(size, field.type)) for field in POOL} | {
        "index": pa.array(np.arange(size)),
        "label": pa.array(label),
        "prediction": pa.array((label + 1) % num_classes),
        "second": pa.array(label),
        "path": pa.array([f"/data/n{number % num_classes:04d}/{number}.JPEG" for number in range(size)]),
    }
    noise = thumbnail(torch.randint(256, (3, 128, 128), dtype=torch.uint8)).ljust(6000, b"\0")
    aum, weight = (np.asarray(score[name], dtype=np.float64) for name in ("aum", "mean_weight"))
    rows = gallery_choice.together(
        [*gallery_choice.hardest_and_easiest(label, aum), *gallery_choice.raised_and_lowered(weight)]
    )
    environment = {"class_names": [f"class {number}" for number in range(num_classes)], "num_pool": size}
    for path in (
        erm_run(tmp_path / "runs" / "erm", 0.7, environment=environment),
        lrw_run(tmp_path / "runs" / "lrw", 0.8, environment=environment, **{"weights/ess": 0.5}),
    ):
        write_pool(columns, path / "pool.parquet")
        kept = {"index": pa.array(rows), "webp": pa.array([noise] * len(rows), pa.binary())}
        write_thumbnails({"pool": kept}, path / "thumbnails.parquet")
    started = time.perf_counter()
    html = page_of(tmp_path / "runs", tmp_path / "report.html")
    assert time.perf_counter() - started < 60
    assert 500_000 < len(html) < 12_000_000
    assert "of 1,000,000 training examples" in Elements(html).text()
