"""Every table is read to the same frame: files of all kinds, frames of other libraries, Python's own."""

import csv
import io
import json
import zipfile

import numpy as np
import pandas as pd
import polars
import pyarrow as pa
import pytest

from hpt.errors import TableError
from hpt.metrics.reading import read_frame
from hpt.metrics.table import read_table

TABLE = pd.DataFrame(
    [
        {"width": w, "lr": 2.0**k, "loss": 3 + 0.03 * (k + 9) ** 2 + w / 1000}
        for w in (64, 128)
        for k in range(-12, -5)
    ]
)
CSV = TABLE.to_csv(index=False)
HEADER, *ROWS = CSV.splitlines()
MARKDOWN = (HEADER, ",".join(["---"] * len(TABLE.columns)), *ROWS)
WRITTEN = {
    "comma.csv": CSV.encode(),
    "semicolon.csv": TABLE.to_csv(index=False, sep=";", decimal=",").encode(),
    "tab.csv": TABLE.to_csv(index=False, sep="\t").encode(),
    "tab.tsv": TABLE.to_csv(index=False, sep="\t").encode(),
    "bar.txt": TABLE.to_csv(index=False, sep="|").encode(),
    "spaces.csv": CSV.replace(",", ", ").encode(),
    "utf16.csv": CSV.encode("utf-16"),
    "mark.csv": CSV.encode("utf-8-sig"),
    "unmarked.csv": CSV.encode("utf-16-le"),
    "unmarked.tsv": TABLE.to_csv(index=False, sep="\t").encode("utf-16-be"),
    "unmarked.json": TABLE.to_json(orient="records", double_precision=15).encode("utf-16-le"),
    "latin.csv": f"# Größe\n{CSV}".encode("latin-1"),
    "comments.csv": f"# made by me\n#\n{CSV}# the end\n".encode(),
    "page.txt": "".join(f"| {line.replace(',', ' | ')} |\n" for line in MARKDOWN).encode(),
    "rows.json": TABLE.to_json(orient="records", double_precision=15).encode(),
    "columns.json": TABLE.to_json(orient="columns", double_precision=15).encode(),
    "index.json": TABLE.to_json(orient="index", double_precision=15).encode(),
    "split.json": TABLE.to_json(orient="split", double_precision=15).encode(),
    "table.json": TABLE.to_json(orient="table", double_precision=15).encode(),
    "named.json": json.dumps({f"run {i}": row for i, row in enumerate(TABLE.to_dict("records"))}).encode(),
    "lines.jsonl": TABLE.to_json(orient="records", lines=True, double_precision=15).encode(),
}


def check(table):
    expected = read_table(TABLE).frame
    pd.testing.assert_frame_equal(read_table(table).frame, expected, check_dtype=False)


@pytest.mark.parametrize("name", WRITTEN)
def test_text_of_every_dialect(name, tmp_path):
    (tmp_path / name).write_bytes(WRITTEN[name])
    check(tmp_path / name)
    check(str(tmp_path / name))


@pytest.mark.parametrize("packed", ["c.csv.gz", "c.csv.xz", "c.csv.bz2", "c.csv.zip", "C.CSV.GZ"])
def test_packed_files(packed, tmp_path):
    kind = {"gz": "gzip"}.get(packed.lower().rsplit(".", 1)[1], packed.rsplit(".", 1)[1])
    TABLE.to_csv(tmp_path / packed, index=False, compression=kind)
    check(tmp_path / packed)


def test_binary_files(tmp_path):
    TABLE.to_parquet(tmp_path / "t.parquet")
    TABLE.to_feather(tmp_path / "t.feather")
    for name in ("t.parquet", "t.feather"):
        check(tmp_path / name)


def test_spreadsheets(tmp_path):
    """A minimal workbook, as no package here writes one."""
    main = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
    office = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    package = "http://schemas.openxmlformats.org/package/2006"

    def related(name, kind, target):
        one = f'<Relationship Id="{name}" Type="{office}/{kind}" Target="{target}"/>'
        return f'<Relationships xmlns="{package}/relationships">{one}</Relationships>'

    names = "".join(f'<c t="inlineStr"><is><t>{name}</t></is></c>' for name in TABLE)
    cells = ["".join(f"<c><v>{value!r}</v></c>" for value in row) for row in TABLE.to_numpy().tolist()]
    rows = "".join(f"<row>{row}</row>" for row in (names, *cells))
    sheet = '<sheet name="s" sheetId="1" r:id="b"/>'
    with zipfile.ZipFile(tmp_path / "t.xlsx", "w") as book:
        book.writestr("[Content_Types].xml", f'<Types xmlns="{package}/content-types"></Types>')
        book.writestr("_rels/.rels", related("a", "officeDocument", "xl/workbook.xml"))
        book.writestr("xl/_rels/workbook.xml.rels", related("b", "worksheet", "worksheets/s.xml"))
        book.writestr(
            "xl/workbook.xml", f'<workbook {main} xmlns:r="{office}"><sheets>{sheet}</sheets></workbook>'
        )
        book.writestr("xl/worksheets/s.xml", f"<worksheet {main}><sheetData>{rows}</sheetData></worksheet>")
    check(tmp_path / "t.xlsx")


@pytest.mark.parametrize(
    "table",
    [
        polars.from_pandas(TABLE),
        polars.from_pandas(TABLE).lazy(),
        pa.Table.from_pandas(TABLE),
        TABLE.to_dict("list"),
        TABLE.to_dict("records"),
        pa.RecordBatch.from_pandas(TABLE),
        {"runs": TABLE.to_dict("records"), "made": "today"},
        TABLE.to_dict("split"),
        TABLE.to_dict("index"),
        TABLE.to_dict(),
        TABLE.to_records(index=False),
        TABLE.to_records(index=False).view(np.ndarray),
        list(TABLE.itertuples(index=False)),
        [{"width": row.width, "lr": row.lr, "loss": np.asarray(row.loss)} for row in TABLE.itertuples()],
        {int(width): dict(zip(rows.lr, rows.loss, strict=True)) for width, rows in TABLE.groupby("width")},
        io.StringIO(CSV.replace(",", "  ")),
        io.StringIO("sep=;\n" + TABLE.to_csv(index=False, sep=";", decimal=",")),
        io.StringIO("% of May\n  # all\n// runs\n" + CSV),
        io.StringIO(CSV),
        io.BytesIO(CSV.encode()),
        TABLE.set_index(["width", "lr"]),
        TABLE.groupby(["width", "lr"]).loss.mean(),
        TABLE.set_index(["width", "lr"]).loss.rename(None),
        TABLE.pivot(index="lr", columns="width", values="loss"),
        TABLE.pivot(index="width", columns="lr", values="loss"),
        TABLE.pivot_table(index="lr", columns="width", values=["loss"]),
        io.StringIO(TABLE.pivot(index="lr", columns="width", values="loss").to_csv()),
        io.StringIO(TABLE.pivot(index="width", columns="lr", values="loss").to_csv()),
        [
            {"config": {"n_embd": row.width, "lr": row.lr}, "summary": {"val_loss": row.loss}}
            for row in TABLE.itertuples()
        ],
    ],
)
def test_frames_of_other_libraries_and_of_python(table):
    check(table)


def test_rows_that_are_made_one_by_one():
    check(iter(TABLE.to_dict("records")))
    check(map(dict, TABLE.to_dict("records")))
    check(csv.DictReader(io.StringIO(CSV)))


PIVOT = TABLE.pivot(index="lr", columns="width", values="loss")


@pytest.mark.parametrize(
    "table",
    [
        PIVOT.rename(columns="width={}".format),
        PIVOT.rename(columns="d_model: {}".format).reset_index(),
        PIVOT.rename(columns="loss_{}".format),
        PIVOT.rename(columns="w{}".format).reset_index(),
        PIVOT.T.rename(columns="lr={}".format),
        PIVOT.T.rename(columns=lambda lr: f"2^{int(np.log2(lr))}"),
        PIVOT.rename(index=np.log2).rename_axis("log2_lr"),
        PIVOT.T.rename(columns=np.log2).rename_axis("log2_lr", axis=1),
        PIVOT.rename_axis(None),
        PIVOT.rename_axis(None).rename_axis(None, axis=1),
        io.StringIO(PIVOT.rename_axis(None).to_csv()),
        io.StringIO(PIVOT.rename_axis("lr \\ width").to_csv()),
        io.StringIO(PIVOT.rename_axis("lr/width").to_csv()),
    ],
)
def test_pivots_whose_axes_say_what_they_are_or_do_not(table):
    check(table)


def test_several_levels_of_columns_are_refused_with_a_call_that_helps():
    table = pd.concat([TABLE.assign(seed=0), TABLE.assign(seed=1)]).pivot(
        index="lr", columns=["width", "seed"], values="loss"
    )
    with pytest.raises(TableError, match="several levels") as caught:
        read_table(table)
    mended = eval(caught.value.remedy, {"table": table})
    assert read_table(mended).frame.seed.max() == 1


def test_dots_beside_decimal_commas_are_thousands():
    large = TABLE.assign(width=TABLE.width * 32)
    text = large.assign(width=large.width.map("{:_}".format).str.replace("_", "."))
    written = text.to_csv(index=False, sep=";", decimal=",")
    assert "2.048;" in written
    pd.testing.assert_frame_equal(read_table(io.StringIO(written)).frame, read_table(large).frame)


def test_in_json_nan_is_a_loss_that_diverged_and_null_is_blank(tmp_path):
    rows = TABLE.to_dict("records")
    rows[6]["loss"] = float("nan")
    rows[5]["loss"] = None
    (tmp_path / "t.json").write_text(json.dumps(rows))
    sweep = read_table(tmp_path / "t.json")
    assert np.isinf(sweep.frame.loss).sum() == 1 and len(sweep.frame) == len(TABLE) - 1


def test_text_that_is_nan_is_no_blank():
    frame = read_frame(io.StringIO("loss,note\nnan,a\n,b\n"))
    assert frame.loss[0] == "nan" and pd.isna(frame.loss[1])


@pytest.mark.parametrize("wrong", [None, 3, object(), {"a": [1], "b": [1, 2]}, np.float64(2)])
def test_what_is_no_table_is_told(wrong):
    with pytest.raises(TableError) as caught:
        read_frame(wrong)
    assert "DataFrame" in caught.value.remedy


def test_damaged_and_unknown_files_are_told(tmp_path):
    with pytest.raises(TableError, match="Cannot read the text"):
        read_frame(io.BytesIO(b"\x1f\x8b\x08,\x00\n1,2,3\n\x00,4,5,6,7\n"))
    for name in ("a.parquet", "a.xlsx", "a.json", "a.csv.gz"):
        (tmp_path / name).write_bytes(b"\x00\x01nonsense")
        with pytest.raises(TableError, match="Cannot read"):
            read_frame(tmp_path / name)
    with pytest.raises(TableError, match=r"\.csv"):
        read_frame(tmp_path / "a.pkl")


def test_an_archive_holds_one_table_whatever_it_is_called(tmp_path):
    with zipfile.ZipFile(tmp_path / "runs.zip", "w") as archive:
        archive.writestr("__MACOSX/._sweep.csv", b"\x00")
        archive.writestr("may/sweep.csv", CSV)
    check(tmp_path / "runs.zip")
    with zipfile.ZipFile(tmp_path / "runs.zip", "a") as archive:
        archive.writestr("other.csv", CSV)
    with pytest.raises(TableError, match="2 files"):
        read_frame(tmp_path / "runs.zip")


@pytest.mark.parametrize(
    "nothing", [[None], {}, [], [{}], [[]], {"a": {}}, [{}, None], {None: None}, pd.DataFrame()]
)
def test_what_holds_nothing_is_no_table(nothing):
    with pytest.raises(TableError, match=r"no column 'width', 'lr', 'loss'|No table"):
        read_table(nothing)
