"""A run's tables: what is written is read, and what no run writes is refused, by every reader of them."""

from __future__ import annotations

import json
import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from molere_report.hard_examples import hardest_examples

from molere_cli.foundation.errors import RunError
from molere_cli.hardness.hardness_scores import read_score
from molere_cli.report import prediction_outcomes
from molere_cli.runs.run_directory import RunDir
from molere_cli.runs.run_tables import METADATA_KEY, POOL, PREDICTIONS, VERSION, RunTable, write_pool
from molere_cli_tests.unit.test_results import trained


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("tables"), dataset="colour-digits", limit_train=60)


@pytest.fixture
def changed(finished, tmp_path):
    """A copy of the run with one of its tables changed, and digests that say that it is as it was written."""

    def change(name, by) -> RunDir:
        run = RunDir(tmp_path / "run")
        shutil.copytree(finished.path, run.path)
        table = pq.read_table(run.path / name)
        pq.write_table(by(table), run.path / name)
        run.mark_done()
        return run

    return change


def with_column(name, values):
    def change(table):
        at = table.column_names.index(name)
        return table.set_column(at, name, values(table))

    return change


def nulls(name):
    return with_column(name, lambda table: pa.nulls(len(table), table.schema.field(name).type))


def twice(name):
    return lambda table: table.append_column(name, table[name])


def of_version(version):
    return lambda table: table.replace_schema_metadata({METADATA_KEY: json.dumps(version)})


@pytest.mark.parametrize(("name", "schema"), [("pool", POOL), ("predictions", PREDICTIONS)])
def test_a_run_writes_all_columns_and_says_of_which_version(finished, name, schema):
    written = pq.read_schema(finished.path / f"{name}.parquet")
    assert written.remove_metadata().equals(schema)
    assert json.loads(written.metadata[METADATA_KEY]) == {"version": VERSION}


def test_what_is_written_is_read(finished):
    table = RunTable.pool(finished)
    assert table.columns() == POOL.names
    found, written = table.read(POOL.names), pq.read_table(finished.pool_path)
    assert found.to_pydict() == written.to_pydict()
    sets = pq.read_table(finished.predictions_path).to_pylist()
    for name in {row["test_set"] for row in sets}:
        rows = RunTable.predictions(finished).read(["index", "label", "group"], test_set=name).to_pylist()
        expected = [row for row in sets if row["test_set"] == name]
        assert rows == [{key: row[key] for key in rows[0]} for row in expected]


BROKEN = [
    (twice("label"), "it has two columns 'label'"),
    (nulls("label"), "column 'label' lacks 60 of 60 values"),
    (nulls("index"), "column 'index' lacks 60 of 60 values"),
    (nulls("prediction"), "column 'prediction' lacks 60 of 60 values"),
    (lambda table: table.slice(0, 10), "it has 10 rows, where the pool had 60"),
    (lambda table: pa.concat_tables([table.slice(0, 59), table.slice(0, 1)]), "some rows are of one example"),
    (with_column("label", lambda table: pa.array([10] * 60)), "label has classes that the run does not have"),
    (with_column("prediction", lambda table: pa.array([0.5] * 60)), "'prediction' holds double, not int64"),
    (of_version({"version": VERSION + 1}), f"a later version of MOLERE .table version {VERSION + 1}"),
    (of_version({"version": "2"}), "it does not say which version it is of"),
    (of_version([2]), "it does not say which version it is of"),
]


@pytest.mark.parametrize(("change", "sentence"), BROKEN)
def test_what_no_run_writes_is_refused(changed, change, sentence):
    run = changed("pool.parquet", change)
    with pytest.raises(RunError, match=sentence):
        hardest_examples(run.path)


@pytest.mark.parametrize("change", [twice("aum"), of_version({"version": 9}), lambda table: table.slice(1)])
def test_scores_come_from_no_such_table(changed, change):
    with pytest.raises(RunError, match=r"damaged|later version"):
        read_score(changed("pool.parquet", change), "aum")


@pytest.mark.parametrize("change", [nulls("label"), nulls("prediction"), of_version({"version": 9})])
def test_nor_does_a_comparison(changed, change):
    with pytest.raises(RunError, match=r"damaged|later version"):
        prediction_outcomes.tested_examples(changed("predictions.parquet", change), "test")


def test_an_example_of_no_group_had_a_number_once(changed):
    numbers = [-1, *range(19)] * 3
    older = with_column("group", lambda table: pa.array(numbers))
    run = changed("pool.parquet", lambda table: older(table).replace_schema_metadata(None))
    found = RunTable.pool(run).read(["group"])["group"].to_pylist()
    assert found == [None if number < 0 else number for number in numbers]


def test_a_table_that_lacks_values_is_not_written(finished, tmp_path):
    found = RunTable.pool(finished).read(POOL.names)
    columns = {name: found[name].combine_chunks() for name in POOL.names}
    write_pool(columns, tmp_path / "same.parquet")
    assert pq.read_table(tmp_path / "same.parquet").equals(pq.read_table(finished.pool_path))
    with pytest.raises(pa.ArrowInvalid):
        write_pool({**columns, "label": pa.nulls(60, pa.int64())}, tmp_path / "other.parquet")
    assert not (tmp_path / "other.parquet").exists()


def test_a_folder_whose_name_reads_like_an_address_is_a_folder(in_tmp, molere):
    settings = "--method erm --dataset digits --limit-train 200 --epochs 1 --device cpu"
    assert molere(f"train {settings} --runs s3:mine").code == 0
    assert molere("split --erm s3:mine/digits-erm-s0 --out file:x.parquet").code == 0
    assert molere("split --strategy hard --erm s3:mine/digits-erm-s0 --out gs:").code == 0
    assert molere("hardest s3:mine/digits-erm-s0 --top 3").code == 0
    assert (in_tmp / "file:x.parquet").is_file()
