"""Tables of spreadsheets and scripts."""

import json

import pytest

from curator.errors import CuratorError
from curator.sources.written import read_table


def rows(tmp_path, content: str | bytes, name: str = "t.csv") -> list[dict]:
    file = tmp_path / name
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_table(file).to_pylist()


KATZE = [{"Datei": "ä.png", "Klasse": "Kätzchen"}, {"Datei": "b.png", "Klasse": "Hund"}]


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1252", "utf-16"])
def test_dialects_and_encodings(tmp_path, separator, encoding):
    text = "Datei;Klasse\r\nä.png;Kätzchen\r\n\r\nb.png;Hund\r\n".replace(";", separator)
    assert rows(tmp_path, text.encode(encoding)) == KATZE


def test_what_excel_and_others_put_around_them(tmp_path):
    assert rows(tmp_path, "sep=;\nDatei;Klasse\nä.png;Kätzchen\nb.png;Hund") == KATZE
    assert rows(tmp_path, '"Datei","Klasse",\n"ä.png","Kätzchen",\nb.png,Hund,\n')[0] | {"Unnamed: 2": 0} == (
        KATZE[0] | {"Unnamed: 2": 0}
    )
    assert rows(tmp_path, "a.png,cat\nb.png,dog\n") == [
        {"file_name": "a.png", "label": "cat"}, {"file_name": "b.png", "label": "dog"},
    ]  # fmt: skip
    assert rows(tmp_path, 'f,l\na.png,"two\nlines; here"\n') == [{"f": "a.png", "l": "two\nlines; here"}]


def test_quotes_that_are_text(tmp_path):
    """Without a word the rows between two of them would be one."""
    text = 'text\tlabel\n"a b\tx\nc d\tx\n"e" f\ty\ng " h\ty\n'
    assert [row["text"] for row in rows(tmp_path, text, "t.tsv")] == ['"a b', "c d", '"e" f', 'g " h']
    assert rows(tmp_path, 'a,b\n1,x\n"2,y\n3,z\n')[1:] == [{"a": '"2', "b": "y"}, {"a": "3", "b": "z"}]
    assert rows(tmp_path, 'a, b\n1, "x, y"\n"2", "z"\n') == [{"a": 1, "b": "x, y"}, {"a": 2, "b": "z"}]


def test_blanks_around_quotes(tmp_path):
    want = [{"a": "hello", "b": "cat"}, {"a": "x, y", "b": "cat"}]
    for text in ('a,b\nhello,"cat" \n"x, y",cat\n', '"a" , "b"\n"hello" , "cat"\n"x, y" , "cat"  \n'):
        assert rows(tmp_path, text) == want
    assert rows(tmp_path, 'a\tb\nhello\t"cat" \n"x, y"\tcat\n', "t.tsv") == want


@pytest.mark.parametrize("text", [
    "text (a, b);label\nhello, you;cat\nbye, you;dog\n", "\n\ntext (a, b);label\nhello, you;cat\nbye, you;dog\n",
    "sep=;\rtext (a, b);label\rhello, you;cat\rbye, you;dog\r", '"text (a, b)",label\n"hello, you",cat\n"bye, you",dog',
    "text (a, b)\tlabel\nhello, you\tcat\nbye, you\tdog\n",
])  # fmt: skip
def test_separators(tmp_path, text):
    assert rows(tmp_path, text) == [
        {"text (a, b)": f"{w}, you", "label": c} for w, c in (("hello", "cat"), ("bye", "dog"))
    ]


@pytest.mark.parametrize("text, line", [
    ('id,text,label\n1,"first, line\n2, is here",cat\n3,"x" y,dog\n', 4), ('t\n"hello\nworld"\n"foo" bar\n', 4),
    ('a,b\n1,"x"\n2,"y"z\n3,w\n', 3), ('a,b\n"1","x"\n"2,"y"\n"3","z"\n', 3),
])  # fmt: skip
def test_quotes_that_do_not_fit(tmp_path, text, line):
    with pytest.raises(CuratorError, match=f"line {line}: a quote begins a cell and does not end it"):
        rows(tmp_path, text)


def test_rows_are_counted_as_pandas_does(tmp_path):
    """Row numbers go to and fro between result, spreadsheet and pandas."""
    pandas = pytest.importorskip("pandas")
    text = "f,x\na.png,1\n,\n\nb.png,2\n,\n,\n"
    got = rows(tmp_path, text)
    assert got == [{"f": "a.png", "x": 1}, {"f": None, "x": None}, {"f": "b.png", "x": 2}]
    theirs = pandas.read_csv(tmp_path / "t.csv")["f"].tolist()
    assert theirs[0] == "a.png" and theirs[2] == "b.png" and len(theirs) == 5  # the last ones hold nothing


@pytest.mark.parametrize("cells, values", [
    (["None", "NA", "cat"], ["None", "NA", "cat"]), (["01", "02", "03"], ["01", "02", "03"]),
    (["1", "", "3"], [1, None, 3]), (["1.5", "NA", "2"], [1.5, None, 2.0]), (["a", "", "b"], ["a", None, "b"]),
    (["True", "False", ""], [True, False, None]), (["None", "NA", "null"], ["None", "NA", "null"]),
    (["1.1", "1.10", "2"], ["1.1", "1.10", "2"]), (["1e2", "100", "3"], ["1e2", "100", "3"]),
    (["1234567890123456789", "1234567890123456788", "1"], ["1234567890123456789", "1234567890123456788", "1"]),
    (["-0", "0", "1"], ["-0", "0", "1"]),
    (["1_0", "1", "2"], ["1_0", "1", "2"]), (["-1", "1", "-1"], [-1, 1, -1]), (["9" * 30, "1", "2"], None),
])  # fmt: skip
def test_cells(tmp_path, cells, values):
    """A text is a text: no word stands for a missing value but where all others are numbers."""
    got = [row["x"] for row in rows(tmp_path, "f,x\n" + "".join(f"a.png,{cell}\n" for cell in cells))]
    assert got == values if values else isinstance(got[0], float)


def test_json(tmp_path):
    two = [{"img": "a.png", "label": "cat"}, {"img": "b.png", "label": None, "w": 3}]
    want = [{**two[0], "w": None}, two[1]]
    assert (
        rows(tmp_path, json.dumps(two), "t.json") == rows(tmp_path, "\n".join(map(json.dumps, two)), "t.jsonl") == want
    )
    assert rows(tmp_path, '{"a.png": "cat", "b.png": "dog"}', "t.json") == [
        {"file_name": "a.png", "label": "cat"}, {"file_name": "b.png", "label": "dog"},
    ]  # fmt: skip


@pytest.mark.parametrize("orient", ["records", "columns", "index", "split", "table", "list", "by file"])
def test_json_of_pandas(tmp_path, orient):
    pandas = pytest.importorskip("pandas")
    want = [{"img": f"{i}.png", "label": name} for i, name in enumerate(["cat", None, "01"])]
    frame = pandas.DataFrame(want)
    if orient == "list":
        text = json.dumps({"img": [row["img"] for row in want], "label": [row["label"] for row in want]})
    elif orient == "by file":
        text = json.dumps({row["img"]: {"label": row["label"]} for row in want})
    else:
        text = frame.to_json(orient=orient)
    got = [{"img": row.get("img") or row["file_name"], "label": row["label"]} for row in rows(tmp_path, text, "t.json")]
    assert got == want


def test_json_of_pandas_with_other_names(tmp_path):
    pandas = pytest.importorskip("pandas")
    names = ["x", "y", "z", "w"]
    frame = pandas.DataFrame({"text": names, "label": ["cat", "dog", "cat", "01"]})
    for index in (["r1", "r2", "r3", "r4"], [-1, 0.5, 2, 3]):
        assert rows(tmp_path, frame.set_axis(index).to_json(orient="index"), "t.json") == frame.to_dict("records")
        assert rows(tmp_path, frame.set_axis(index).to_json(), "t.json") == frame.to_dict("records")
    numbered = frame.set_axis([0, 1], axis=1)
    for orient in ("columns", "index", "split", "records"):
        got = rows(tmp_path, numbered.to_json(orient=orient), "t.json")
        assert [list(row.values()) for row in got] == frame.to_numpy().tolist()
    files = frame.assign(file_name=[f"{name}.png" for name in names]).set_index("file_name")[["label"]]
    for orient in ("columns", "index", "split", "table"):
        got = rows(tmp_path, files.to_json(orient=orient), "t.json")
        assert got == [{"file_name": f"{n}.png", "label": c} for n, c in zip(names, frame["label"], strict=True)]


@pytest.mark.parametrize("text", [
    '{"img": "a.png", "label": "cat"}', '{"label": {"name": "cat", "id": null}}', '{"embedding": [1, 2, 3]}',
    '{\n"x": [1]\n}',
])  # fmt: skip
def test_one_object_of_lines_is_one_row(tmp_path, text):
    assert rows(tmp_path, text, "t.jsonl") == [json.loads(text)]


def test_one_object_is_one_row(tmp_path):
    assert rows(tmp_path, '{"img": "a.png", "label": "cat"}', "t.json") == [{"img": "a.png", "label": "cat"}]
    uneven = {"images": [1, 2], "categories": [1]}
    assert rows(tmp_path, json.dumps(uneven), "t.json") == [uneven]


@pytest.mark.parametrize("content, name, words", [
    ("", "t.csv", "expected a line of column names"), ("a,a\n1,2\n", "t.csv", "two columns 'a'"),
    ("a,b\n1,2,3\n", "t.csv", "line 2 has 3 cells, the first line 2"), ("[1]", "t.json", "expected objects of one"),
    ('{"a": 1}\n{"a": 2]', "t.jsonl", "line 2: Expecting"),
    ('{"columns": ["a"], "data": [[1, 2]]}', "t.json", "expected a"),
    ("[" * 100_000, "t.json", "expected a table of rows"), ('{"a": 1}\n{"a": "x"}', "t.jsonl", "expected a table"),
    ('[{"a": 1' + "0" * 400 + "}]", "t.json", "expected a table of rows"), ("nothing", "t.parquet", "expected a table"),
    ('a,b\n1,"' + "x" * 200_000 + '"\n', "t.csv", "expected a table of rows"), ("{", "t.json", "expected a table"),
    (b"\xff\xfe\x00", "t.csv", "expected a table"), (b"a,b\n\x81,\xff\n", "t.csv", "expected a table"),
])  # fmt: skip
def test_what_is_no_table(tmp_path, content, name, words):
    with pytest.raises(CuratorError, match=words) as e:
        rows(tmp_path, content, name)
    assert str(e.value).startswith(str(tmp_path / name)) and "\n" not in str(e.value) and len(str(e.value)) < 600


def test_a_table_larger_than_the_memory(tmp_path, monkeypatch):
    monkeypatch.setattr("curator.sources.written.free_memory", lambda: 100.0)
    with pytest.raises(CuratorError, match="too much for the free memory"):
        rows(tmp_path, "a,b\n1,2\n")
