"""One reader for every CSV file: marks, encodings, delimiters, headers, lines."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from molere_cli import DataError, csv_rows
from molere_cli.config.sections import DataSettings
from molere_cli.data.source import load_dataset
from molere_cli.registry.registry import load_plugins

ENCODINGS = ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be")
DELIMITERS = (",", ";", "\t")


def encoded(text: str, encoding: str) -> bytes:
    """The two of UTF-16 that say their order do not write a mark of their own."""
    return (f"\ufeff{text}" if encoding in {"utf-16-le", "utf-16-be"} else text).encode(encoding)


def rows_of(path: Path, content: bytes, *columns: str, optional=()) -> list[tuple[int, dict[str, str]]]:
    path.write_bytes(content)
    return [(row.line, dict(row.cells)) for row in csv_rows(path, columns, optional=optional)]


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("delimiter", DELIMITERS)
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_spreadsheets_file_is_read_whatever_its_mark_and_delimiter(tmp_path, encoding, delimiter, end):
    lines = (("name", "note", "index"), ("Zoë", "x", "3"), (), ("木", f'"a{delimiter}b"', "14"), ())
    content = encoded(end.join(delimiter.join(line) for line in lines), encoding)
    assert rows_of(tmp_path / "a.csv", content, "index", "name", optional=["note", "group"]) == [
        (2, {"index": "3", "name": "Zoë", "note": "x"}),
        (4, {"index": "14", "name": "木", "note": f"a{delimiter}b"}),
    ]


@pytest.mark.parametrize(
    "header", ["Index,LABEL", " index , label ", '"Index ",Label', "INDEX;\tLabel", "index\t Label"]
)
def test_names_of_columns_match_without_regard_to_case_and_space(tmp_path, header):
    delimiter = next(mark for mark in ",;\t" if mark in header)
    content = f"{header}\n1{delimiter}Cat\n".encode()
    assert rows_of(tmp_path / "a.csv", content, "index", "label") == [(2, {"index": "1", "label": "Cat"})]


def test_the_header_decides_on_the_delimiter_and_not_the_rows(tmp_path):
    content = b"index\n1\n"
    assert rows_of(tmp_path / "a.csv", content, "index") == [(2, {"index": "1"})]
    content = b"a; b,label,index\nx;y;z,c;d,2\n"
    assert rows_of(tmp_path / "a.csv", content, "index", "label") == [(2, {"index": "2", "label": "c;d"})]
    content = b'"a, b, c";label;index\n1,2,3;c,d;2\n'
    assert rows_of(tmp_path / "a.csv", content, "index", "label") == [(2, {"index": "2", "label": "c,d"})]


def test_a_row_knows_the_line_it_ends_on(tmp_path):
    content = b'index,note\n1,"over\ntwo"\n2,\n'
    rows = rows_of(tmp_path / "a.csv", content, "index", "note")
    assert rows == [(3, {"index": "1", "note": "over\ntwo"}), (4, {"index": "2", "note": ""})]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", ", line 1: there is no column 'index'; there are: none"),
        (b"id;label\n1;2\n", ", line 1: there is no column 'index'; there are: id, label"),
        (b"index,Label,label\n1,2,3\n", ", line 1: there is more than one column 'label'"),
        (b"index,label,Group,group\n1,2,3,4\n", ", line 1: there is more than one column 'group'"),
        (b"index,label\n\n", " has no row below its header"),
        (b"index,label\n1,2\n3\n", ", line 3: there are 1 cells under 2 columns"),
        ("index,label\nä,b\n".encode("latin-1"), "'utf-8' codec can't decode byte 0xe4"),
        (b"\xff\xfeindex,label\n1", "cannot read "),
    ],
)
def test_a_file_that_is_no_table_is_one_sentence(tmp_path, content, sentence):
    with pytest.raises(DataError) as caught:
        rows_of(tmp_path / "a.csv", content, "index", "label", optional=["group"])
    assert sentence in str(caught.value)
    assert str(tmp_path / "a.csv") in str(caught.value)


def test_a_number_may_have_space_around_it_and_nothing_else(tmp_path):
    (tmp_path / "a.csv").write_text("index,label\n 7 ,x\n")
    (row,) = csv_rows(tmp_path / "a.csv", ("index", "label"))
    assert row.number("index") == 7
    with pytest.raises(DataError, match=r"a\.csv, line 2: the index is 7; it can be 0 to 6$"):
        row.number("index", below=7)
    with pytest.raises(DataError, match=r"a\.csv, line 2: the label 'x' is no whole number$"):
        row.number("label")


CELLS = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\r\0\ufeff"), min_size=1)


@given(
    cells=st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=5),
    delimiter=st.sampled_from(DELIMITERS),
    encoding=st.sampled_from(ENCODINGS),
)
def test_what_is_written_is_read(tmp_path_factory, cells, delimiter, encoding):
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter, quoting=csv.QUOTE_ALL)
    writer.writerows([("One", "Two"), *cells])
    path = tmp_path_factory.mktemp("csv") / "a.csv"
    rows = rows_of(path, encoded(text.getvalue(), encoding), "one", "two")
    assert [tuple(row.values()) for _, row in rows] == cells


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_every_list_of_ones_own_may_come_from_a_spreadsheet(tmp_path, encoding):
    """The list of images here; labels and validation sets in the two tests below."""
    for number in range(8):
        Image.new("RGB", (8, 8)).save(tmp_path / f"{number}.png")
    lines = ["Path;Label;Split"]
    lines += [f"{number}.png;{'ab'[number % 2]};{'train' if number < 6 else 'test'}" for number in range(8)]
    (tmp_path / "list.csv").write_bytes("\r\n".join(lines).encode(encoding))
    data = load_dataset(DataSettings(dataset=f"csv:{tmp_path / 'list.csv'}"), load_plugins())
    assert data.dataset.pool.labels.tolist() == [0, 1, 0, 1, 0, 1]


def test_labels_of_ones_own_may_come_from_a_spreadsheet(tmp_path):
    (tmp_path / "labels.csv").write_bytes("Index\tLabel\r\n5\t7\r\n".encode("utf-16"))
    settings = DataSettings(dataset="digits", label_noise=str(tmp_path / "labels.csv"))
    pool = load_dataset(settings, load_plugins()).dataset.pool
    assert pool.labels[pool.indices == 5].tolist() == [7]


def test_a_validation_set_of_ones_own_may_come_from_a_spreadsheet(in_tmp, molere):
    Path("mine.csv").write_bytes("Index;Why\r\n3;\r\n14;hard, very\r\n".encode("utf-16"))
    done = molere("split --strategy file:mine.csv --quiet")
    assert (done.code, done.last_line) == (0, "splits/digits-file-0.002.parquet")
