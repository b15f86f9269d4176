"""Charts, by the data that they draw; and as files and parts of a page."""

from __future__ import annotations

import math
import subprocess
import sys
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from molere_report import drawing
from molere_report.binned import calibration_bins, histogram, weight_bins
from molere_report.charts import (
    MOST_LABELS,
    calibration_chart,
    epochs_chart,
    gains_chart,
    hardness_chart,
    weights_chart,
)
from molere_report.drawing import FORMATS, as_svg, write_chart

from molere_cli.foundation.errors import ConfigError, RunError
from molere_cli.report import compare_runs, find_runs
from molere_cli_tests.fake_runs import erm_run, lrw_run, molere_run

SVG = "{http://www.w3.org/2000/svg}"


def drawn(chart, *names):
    """The rows of data of a chart that have these names, in the order in which they are drawn."""
    rows = [row for values in data_of(chart.to_dict()) for row in values if set(names) <= set(row)]
    return list(dict.fromkeys(tuple(row[name] for name in names) for row in rows))


def data_of(part, named=None):
    """The data of every part of a specification, as a list of rows each."""
    named = part.get("datasets", {}) if named is None else named
    if isinstance(part, dict):
        if "data" in part:
            data = part["data"]
            yield named[data["name"]] if "name" in data else data["values"]
        for key, each in part.items():
            if key not in {"data", "datasets"}:
                yield from data_of(each, named)
    elif isinstance(part, list):
        for each in part:
            yield from data_of(each, named)


@pytest.fixture
def root(tmp_path):
    for seed in range(3):
        erm_run(tmp_path / f"erm{seed}", 0.5, config={"seed": seed})
        lrw_run(tmp_path / f"hard{seed}", 0.55 + 0.01 * seed**2, config={"seed": seed})
    molere_run(tmp_path / "molere", 0.73)
    return tmp_path


# --- what is drawn


def test_gains_are_those_of_the_comparison(root):
    comparison = compare_runs(find_runs(root))
    chart = gains_chart(comparison)
    results = [result for result in comparison.results if result.gain is not None]
    assert drawn(chart, "label", "mean") == [(each.row.label, each.gain.mean) for each in results]
    dots = [(each.row.label, str(seed), value) for each in results for (_, seed), value in each.gains.items()]
    assert drawn(chart, "label", "seed", "gain") == dots and len(dots) == 4
    [part] = chart.to_dict()["vconcat"]
    [rule] = [layer for layer in part["layer"] if "x2" in layer["encoding"]]
    hard = results[0].gain
    [values] = data_of(rule, chart.to_dict().get("datasets", {}))
    assert [(row["low"], row["high"]) for row in values] == [(hard.low, hard.high)]
    assert (rule["encoding"]["x"]["field"], rule["encoding"]["x2"]["field"]) == ("low", "high")


def test_every_dataset_has_its_part(root):
    erm_run(root / "other", 0.4, config={"dataset": "cifar10"})
    lrw_run(root / "cifar", 0.45, config={"dataset": "cifar10"})
    titles = [part["title"] for part in gains_chart(compare_runs(find_runs(root))).to_dict()["vconcat"]]
    assert titles == ["cifar10, small_cnn", "digits, small_cnn"]


def test_no_gain_no_chart(tmp_path):
    erm_run(tmp_path / "erm", 0.5)
    with pytest.raises(RunError, match="no gain to draw"):
        gains_chart(compare_runs(find_runs(tmp_path)))


def test_a_histogram_draws_counts_and_not_examples():
    values = np.random.default_rng(0).normal(size=5000)
    chart = hardness_chart(values, score="AUM", cut=-1.0, cut_label="hardest 16%")
    rows = drawn(chart, "low", "high", "count")
    assert len(rows) == 40 and sum(count for *_, count in rows) == 5000
    for low, high, count in rows[:-1]:
        assert count == sum(low <= value < high for value in values)
    assert drawn(chart, "cut", "label") == [(-1.0, "hardest 16%")]


def test_lines_are_those_of_the_runs():
    lines = {"ERM": {"a": [(1, 0.2), (2, 0.4)]}, "LRW": {"b": [(1, 0.3)], "c": [(1, 0.1)]}}
    expected = [("ERM", "a", 1, 0.2), ("ERM", "a", 2, 0.4), ("LRW", "b", 1, 0.3), ("LRW", "c", 1, 0.1)]
    chart = epochs_chart(lines, y="accuracy")
    assert drawn(chart, "label", "run", "epoch", "value") == expected
    encoding = chart.to_dict()["encoding"]
    assert encoding["color"]["field"] == encoding["strokeDash"]["field"] == "label"
    with pytest.raises(ValueError, match="it can tell 6 apart"):
        epochs_chart({str(number): {} for number in range(MOST_LABELS + 1)}, y="accuracy")


def test_weights_and_calibration_draw_their_bins():
    generator = np.random.default_rng(1)
    scores, weights, right = generator.normal(size=100), generator.random(100), generator.random(100) < 0.5
    bins = weight_bins(scores, weights)
    assert drawn(weights_chart(bins, score="AUM"), "score", "low", "median", "high") == [
        (each.score, each.low, each.median, each.high) for each in bins
    ]
    found = {"ERM": calibration_bins(weights, right), "LRW": calibration_bins(weights, ~right)}
    rows = drawn(calibration_chart(found), "label", "confidence", "accuracy", "count")
    assert rows == [
        (label, each.confidence, each.accuracy, each.count) for label, bins in found.items() for each in bins
    ]


# --- what the numbers of a bin are


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=60), st.integers(1, 9))
@example([0.0, 5e-324], 2)
@example([1.0, 1.0 + 2**-52], 9)
def test_a_histogram_holds_every_value_once(values, bins):
    found = histogram(np.array(values), bins)
    assert sum(each.count for each in found) == len(values) and len(found) == bins


@given(st.lists(st.tuples(st.integers(-3, 3), st.floats(0, 5)), min_size=1, max_size=50), st.integers(1, 12))
def test_parts_by_hardness_are_of_one_size(rows, bins):
    scores, weights = (np.array(column, dtype=float) for column in zip(*rows, strict=True))
    found = weight_bins(scores, weights, bins)
    counts = [each.count for each in found]
    assert sum(counts) == len(rows) and max(counts) - min(counts) <= 1
    ordered = sorted(range(len(rows)), key=lambda row: scores[row])
    start = 0
    for each in found:
        members = sorted(weights[row] for row in ordered[start : start + each.count])
        start += each.count
        middle = members[(len(members) - 1) // 2], members[len(members) // 2]
        assert each.median == pytest.approx(sum(middle) / 2)
        assert members[0] <= each.low <= each.median <= each.high <= members[-1]


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=60))
def test_calibration_is_the_expected_calibration_error(rows):
    probability, right = np.array([p for p, _ in rows]), np.array([r for _, r in rows])
    found = calibration_bins(probability, right)
    assert sum(each.count for each in found) == len(rows)
    for each in found:
        assert 0 <= each.accuracy <= 1 and 0 <= each.confidence <= 1
    error = sum(each.count * abs(each.confidence - each.accuracy) for each in found) / len(rows)
    by_hand = 0.0
    for number in range(15):
        members = [row for row in rows if min(int(row[0] * 15), 14) == number]
        if members:
            by_hand += abs(math.fsum(p for p, _ in members) - sum(r for _, r in members)) / len(rows)
    assert error == pytest.approx(by_hand, abs=1e-12)


# --- as files, and in a page


@pytest.mark.parametrize("ending", FORMATS)
def test_a_file_is_what_its_ending_says_and_nothing_else_is_left(root, tmp_path_factory, ending):
    folder = tmp_path_factory.mktemp("out")
    write_chart(gains_chart(compare_runs(find_runs(root))), folder / f"gains.{ending}")
    [path] = folder.iterdir()
    start = {"pdf": b"%PDF", "png": b"\x89PNG\r\n\x1a\n", "svg": b"<svg"}[ending]
    assert path.name == f"gains.{ending}" and path.read_bytes().startswith(start)


def test_another_ending_is_refused(root, tmp_path):
    with pytest.raises(ConfigError, match=r"gains\.docx: its ending must be one of pdf, png, svg"):
        write_chart(gains_chart(compare_runs(find_runs(root))), tmp_path / "gains.docx")


def test_without_the_extra_it_is_one_sentence(monkeypatch, tmp_path):
    monkeypatch.setattr(drawing, "find_spec", lambda name: None if name == "vl_convert" else name)
    with pytest.raises(ConfigError, match=r"a chart needs vl-convert; .*pip install 'molere\[report\]'"):
        drawing.check_chart_path(tmp_path / "gains.png")


HOSTILE = ["<script>alert(1)</script>", "$x_1$", '"><img src=x>', "&amp;", "\x1b[31m", "a" * 200]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_name_is_text_in_the_page(tmp_path, name):
    environment = {"label": name, "split": None}
    erm_run(tmp_path / "erm", 0.5)
    lrw_run(tmp_path / "lrw", 0.6, environment=environment)
    chart = gains_chart(compare_runs(find_runs(tmp_path)))
    svg = as_svg(chart, title=name, description=name)
    root = ElementTree.fromstring(svg)  # noqa: S314 - ours
    names = {element.tag.removeprefix(SVG) for element in root.iter()}
    assert names <= {"svg", "title", "g", "path", "line", "text", "rect", "defs", "clipPath", "tspan"}
    attributes = {key for element in root.iter() for key in element.attrib}
    assert not {key for key in attributes if key == "style" or key.startswith("on") or "href" in key}
    assert (root.get("role"), root.get("height")) == ("img", None)
    assert root[0].text is not None and root[0].tag == f"{SVG}title"
    text = "".join(element.text or "" for element in root.iter(f"{SVG}text"))
    if len(name) < 60 and "\x1b" not in name:
        assert name in text


def test_a_drawing_takes_the_colour_of_the_page(root):
    svg = as_svg(gains_chart(compare_runs(find_runs(root))), title="t", description="d")
    root = ElementTree.fromstring(svg)  # noqa: S314 - ours
    fills = {element.get("fill") for element in root.iter(f"{SVG}text")}
    assert fills == {"currentColor"}


def test_a_picture_does_not_hang_on_a_display(root, tmp_path):
    command = [sys.executable, "-m", "molere_cli", "plot", "--runs", str(root), "-o", "gains.png"]
    done = subprocess.run(
        command, cwd=tmp_path, env={"MPLBACKEND": "no such"}, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "gains.png\n", "")


def test_a_chart_of_runs_is_a_command(in_tmp, molere):
    erm_run(in_tmp / "runs" / "erm", 0.5)
    lrw_run(in_tmp / "runs" / "hard", 0.6)
    done = molere("plot -o charts/gains.png")
    assert (done.code, done.last_line) == (0, "charts/gains.png")
    assert (in_tmp / "charts" / "gains.png").read_bytes().startswith(b"\x89PNG")
    assert molere("plot -o gains.txt").code == 1
