"""CSV tables: what pandas would mend in silence is refused, and ids stay as written."""

import gzip

import pandas as pd
import pytest

from causalfm.errors import DataError
from causalfm.tables import atomic, join_tables, read_table, read_tables


def table(tmp_path, content, name="t.csv"):
    raw = content if isinstance(content, bytes) else content.encode()
    (tmp_path / name).write_bytes(gzip.compress(raw) if name.endswith(".gz") else raw)
    return read_table(tmp_path / name)


@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz"])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("site,age,site\na,1,b\n", r"repeated column names: site\. Rename"),
        ("a.1,a,a\n1,2,3\n", "repeated column names: a"),
        ("\ufeffsite,site\na,b\n", "repeated column names: site"),
        ("site,age,sex\na,1,f\nb,2\nc\n", r"2 rows have fewer fields than the header \(rows 1, 2, from 0"),
        ("site,age\na,1\n".encode("utf-16"), "not UTF-8"),
        ("site,age\na,1\n".encode("utf-16-le"), "not UTF-8 text"),
        ("site,age\nM\u00fcnchen,1\n".encode("latin-1"), "not UTF-8"),
        ("site,age\nM\u00fcnchen,1\n".encode() + "M\u00fcnchen,1\n".encode("cp1252"), "not UTF-8"),
        ("site,age\na,1\nb,\0002\n", "not UTF-8 text"),
        ('site,age\na,1\n"b,2\n', "cannot be read"),
        ("site;age\na;1\n", r"has semicolons between its fields, not commas: .*read_csv\(path, sep=';', dtype=str\)"),
        ("site\tage\na\t1\n", r"has tabs between its fields.*sep='\\t'"),
        ("site;age\na;1,5\n", "has semicolons between its fields"),
    ],
)
def test_tables_that_are_refused(tmp_path, content, message, name):
    with pytest.raises(DataError, match=message) as caught:
        table(tmp_path, content, name)
    assert repr(name) in str(caught.value)


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_utf_8_with_and_without_its_mark(tmp_path, mark):
    frame = table(tmp_path, mark + "Ort,größe\r\nMünchen,1\r\n".encode())
    assert frame.columns.tolist() == ["Ort", "größe"]
    assert frame["Ort"].tolist() == ["München"]


def test_quoted_commas_and_lines_are_one_field(tmp_path):
    frame = table(tmp_path, 'site,note\n"a,b","two\nlines"\n"say ""x""", c \n')
    assert frame["site"].tolist() == ["a,b", 'say "x"']
    assert frame["note"].tolist() == ["two\nlines", " c "]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["007", "8"], ["007", "8"]),
        (["+7", "8"], ["+7", "8"]),
        (["12345678901234567890123", "8"], ["12345678901234567890123", "8"]),
        (["9007199254740993", ""], ["9007199254740993", None]),
        (["7", ""], [7.0, None]),
        (["-7", "8"], [-7, 8]),
        (["0", "10"], [0, 10]),
        (["0.50", "1e3"], [0.5, 1000.0]),
        (["1.1", "1.10"], ["1.1", "1.10"]),
        (["1E5", "10E4"], ["1E5", "10E4"]),
        (["1.5", "1.5"], [1.5, 1.5]),
        (["7", "7.0"], ["7", "7.0"]),
        (["True", "False"], [True, False]),
    ],
)
def test_numbers_that_are_names(tmp_path, values, expected):
    frame = table(tmp_path, "id,x\n" + "".join(f"{value},1\n" for value in values))
    assert [None if pd.isna(value) else value for value in frame["id"]] == expected


def test_what_pandas_takes_for_missing(tmp_path):
    frame = table(tmp_path, 'region,x\nNA,1\nEU,2\n"NA",3\n,4\nN/A,5\nnull,6\n')
    assert frame["region"].isna().tolist() == [True, False, True, True, True, True]


@pytest.mark.parametrize(
    ("first", "second"),
    [(["007", "8"], ["8", "9"]), (["1.1"], ["1.10"]), (["7", "8"], ["7.0"]), (["x"], ["8"]), (["True"], ["1"])],
)
def test_ids_are_of_one_kind_in_all_parts(tmp_path, first, second):
    for name, ids in (("a", first), ("b", second)):
        (tmp_path / f"{name}.csv").write_text("id,age\n" + "".join(f"{i},6\n" for i in ids))
    frame = join_tables(read_tables([tmp_path / "a.csv", tmp_path / "b.csv"]))
    assert frame["id"].tolist() == first + second
    assert frame["age"].dtype == int


def test_an_old_folder_that_cannot_be_removed(tmp_path, monkeypatch):
    def stuck(path, ignore_errors=False):
        if not ignore_errors:
            raise OSError("busy")

    (tmp_path / "store").mkdir()
    monkeypatch.setattr("shutil.rmtree", stuck)
    with atomic(tmp_path / "store") as temporary:
        temporary.mkdir()
        (temporary / "x").write_text("new")
    assert (tmp_path / "store" / "x").read_text() == "new"


def test_a_folder_is_replaced_as_a_whole(tmp_path):
    target = tmp_path / "store"
    for content in ("old", "new"):
        with atomic(target) as temporary:
            temporary.mkdir()
            (temporary / "x").write_text(content)
    assert (target / "x").read_text() == "new"

    def fail():
        with atomic(target) as temporary:
            temporary.mkdir()
            (temporary / "x").write_text("half")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        fail()
    assert (target / "x").read_text() == "new"
    assert [p.name for p in tmp_path.iterdir()] == ["store"]
