"""CSV files: what is written is read back, and rows that are added are as if written with the others."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.support.tables import append_rows, read_rows, signed, write_rows

COLUMNS = ("arch", "loss", "note")
# a file cannot tell how lines within a value end, and has no place for half a character
texts = st.text(st.characters(exclude_characters="\r", exclude_categories=["Cs"]), max_size=8)
tables = st.lists(st.fixed_dictionaries(dict.fromkeys(COLUMNS, texts)), max_size=4)


@given(tables)
def test_what_is_written_is_read_back(rows: list[dict[str, str]]) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "table.csv"
        write_rows(path, COLUMNS, rows)
        assert read_rows(path, COLUMNS) == rows


@given(tables, tables)
def test_rows_that_are_added_are_as_if_written_at_once(
    first: list[dict[str, str]], more: list[dict[str, str]]
) -> None:
    with TemporaryDirectory() as folder:
        path, whole = Path(folder) / "below" / "table.csv", Path(folder) / "whole.csv"
        written = 0
        for rows in (first, more):
            written += append_rows(path, COLUMNS, [tuple(row[name] for name in COLUMNS) for row in rows])
        write_rows(whole, COLUMNS, [*first, *more])
        assert path.read_bytes() == whole.read_bytes()
        assert written == len(path.read_bytes())


def test_a_row_that_a_crash_cut_short_stays_alone(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    append_rows(path, COLUMNS, [("a", "1", "")])
    with open(path, "a") as file:
        file.write("b,2")
    append_rows(path, COLUMNS, [("c", "3", "")])
    assert [row["arch"] for row in read_rows(path)] == ["a", "b", "c"]


def test_what_is_no_column_is_left_out_and_what_is_lacking_is_empty(tmp_path: Path) -> None:
    write_rows(tmp_path / "table.csv", COLUMNS, [{"arch": "a", "note": 1, "other": 2}])
    assert read_rows(tmp_path / "table.csv") == [{"arch": "a", "loss": "", "note": "1"}]


@pytest.mark.parametrize(
    ("value", "spec", "text"),
    [
        (-0.004, ".2f", "0.00"),
        (0.004, ".2f", "0.00"),
        (-0.00001, ".1%", "0.0%"),
        (-0.006, ".2f", "-0.01"),
        (1234.5, ",.1f", "+1,234.5"),
    ],
)
def test_what_rounds_to_zero_has_no_sign(value: float, spec: str, text: str) -> None:
    assert signed(value, spec) == text
