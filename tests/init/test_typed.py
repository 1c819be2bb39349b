from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from etl.init.date_formats import FORMATS, LIKE_A_DATE
from etl.job import ColumnSpec, Step
from tests.init.proposing import column_source, csv_source, proposed, spec_of, table_source


def dated(format_: str, kind: str = "date") -> dict[str, object]:
    return {"type": kind, "transform": (Step("date_format", format_),)}


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["1", "-2", "30", ""], {"type": "integer"}),
        (["0", "1", "1"], {"type": "integer"}),
        (["1", "2.5", ".5", "1e3"], {"type": "number"}),
        (["true", "False"], {"type": "boolean"}),
        (["y", "n", ""], {"type": "boolean"}),
        (["2024-02-29", "1999-01-01"], {"type": "date"}),
        (["2024-02-29T10:00:00Z", "1999-01-01 00:00"], {"type": "datetime"}),
        (["2024-02-29", "2024-02-29T10:00:00+02:00"], {"type": "datetime"}),
        (["3/8/1971", "1/16/1968"], dated("%m/%d/%Y")),
        (["3/8/1971", "16/1/1968"], dated("%d/%m/%Y")),
        (["31.12.1999", "1.2.2000"], dated("%d.%m.%Y")),
        (["2001/12/31"], dated("%Y/%m/%d")),
        (["7-Jan-2020", "31-May-2021"], dated("%d-%b-%Y")),
        (["1 May 2020", "2 May 2021"], dated("%d %b %Y")),
        (["March 1, 2020"], dated("%B %d, %Y")),
        (["20240131", "19991231"], dated("%Y%m%d")),
        (["31/12/1999 23:59"], dated("%d/%m/%Y %H:%M", "datetime")),
        (["12/31/1999 11:59 PM"], dated("%m/%d/%Y %I:%M %p", "datetime")),
        (["25/12/98"], dated("%d/%m/%y")),
        (["a;b", "c; d e;f", "g"], {"type": "list", "separator": ";"}),
        (["a|b", "c|d"], {"type": "list", "separator": "|"}),
        (['{""a"": 1}', "[1, 2]", ""], {"type": "json"}),
        (["12,5", "1,25", "3"], {"type": "number", "transform": (Step("replace", pairs=((",", "."),)),)}),
        (["1,234.5", "12"], {"type": "number", "transform": (Step("replace", pairs=((",", ""),)),)}),
    ],
)
def test_a_type_is_proposed_that_every_value_has(
    tmp_path: Path, values: list[str], expected: dict[str, object]
) -> None:
    assert spec_of(column_source(tmp_path, values)) == ColumnSpec(column="v", **expected)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "values",
    [
        ["00123", "45678"],
        ["+4912345678"],
        ["12345678901234567"],
        ["1", "two"],
        ["y", "y"],
        ["f", "f"],
        ["30/2/2020"],
        ["3/8/1971", "8/3/1971"],
        ["01/02/03"],
        ["1,234", "5,678"],
        ["2024-02-30"],
        ["12345678", "20240101"],
        ["{not json}"],
        ["[[1]]"],
        ["nan", "inf"],
        ["0x10", "7"],
        ["I came; I saw, and then what I did was go home", "so"],
        [" 1", "2"],
    ],
)
def test_what_is_doubtful_stays_text(tmp_path: Path, values: list[str]) -> None:
    spec = spec_of(column_source(tmp_path, values))
    assert (spec.transform, spec.type) in {((), None), ((), "integer")}
    assert spec.type is None or values == ["12345678", "20240101"]


def test_a_doubt_between_two_formats_is_told_with_both(tmp_path: Path) -> None:
    text = proposed(column_source(tmp_path, ["3/8/1971", "8/3/1971"])).text
    assert '{date_format: "%m/%d/%Y"}' in text
    assert '{date_format: "%d/%m/%Y"}' in text


def test_a_type_that_nearly_fits_is_only_told_with_the_place_of_the_first_misfit(tmp_path: Path) -> None:
    source = column_source(tmp_path, [*["5"] * 250, "five", *["7"] * 150, "seven"])
    text = proposed(source).text
    assert spec_of(source) == ColumnSpec(column="v")
    assert "# v: {column: v, type: integer}" in text
    assert "2 of 402 values are not fit for `integer` (the first in row 251)" in " ".join(
        text.replace("#", "").split()
    )


def test_a_type_that_fits_too_few_is_not_told(tmp_path: Path) -> None:
    text = proposed(column_source(tmp_path, [*["5"] * 50, "five"])).text
    assert "integer" not in text


@pytest.mark.parametrize("name", ["zip", "app_version_code", "phone"])
def test_codes_are_not_counted_with(tmp_path: Path, name: str) -> None:
    assert spec_of(column_source(tmp_path, ["10115", "80331"], name), name).type is None


def test_leading_zeros_are_told(tmp_path: Path) -> None:
    assert "leading zeros" in proposed(column_source(tmp_path, ["00123", "45678"])).text


def test_types_of_a_file_that_has_types_are_kept() -> None:
    source = table_source(
        {"user_id": ["user-1", "user-2"], "v": [1.5, 2.5], "s": ["1", "2"], "t": ["true", "false"]}
    )
    assert {spec_of(source, name).type for name in "vst"} == {None}
    assert "double" in proposed(source).text


def test_dates_in_text_of_a_file_that_has_types_are_read_too() -> None:
    source = table_source({"user_id": ["user-1", "user-2"], "v": ["16/1/1968", ""]})
    assert spec_of(source) == ColumnSpec(column="v", **dated("%d/%m/%Y"))  # type: ignore[arg-type]


def test_long_text_is_cut_rather_than_rejected(tmp_path: Path) -> None:
    source = column_source(tmp_path, ["x" * 1025, "short"])
    assert spec_of(source) == ColumnSpec(column="v", too_long="truncate")
    assert "1 value of more than 1,024 characters" in proposed(source).text


def test_a_column_whose_values_cannot_be_sent_is_left_out_with_the_reason() -> None:
    source = table_source(
        {"user_id": ["user-1", "user-2"], "v": [1.0, float("inf")], "w": pa.array([[[1]], None])}
    )
    text = proposed(source).text
    assert "1 not_finite; the first is row 2" in text
    assert "1 nested_list; the first is row 1" in text
    assert proposed(source).rejects == {}


@pytest.mark.parametrize("format_", FORMATS)
def test_what_a_format_writes_it_reads_and_counts_as_like_a_date(format_: str) -> None:
    texts = pa.array(
        [
            datetime(year, month, 28, 23, 59, 58).strftime(format_)
            for year in (1999, 2024)
            for month in range(1, 13)
        ]
    )
    assert not FORMATS[format_].misfits(texts).any()
    assert pc.all(pc.match_substring_regex(texts, LIKE_A_DATE)).as_py()


def test_misfits_after_the_first_batches_are_seen(tmp_path: Path) -> None:
    rows = "".join(f"user-{number},{number}\n" for number in range(40_000))
    source = csv_source(tmp_path, f"user_id,v\n{rows}user-x,x\n")
    assert spec_of(source) == ColumnSpec(column="v")
    assert "(the first in row 40,001)" in " ".join(proposed(source).text.replace("#", "").split())
