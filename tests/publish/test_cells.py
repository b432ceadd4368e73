"""Labels of CSV and JSON files change, and every other byte stays."""

import csv
import io
import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from curator.errors import CuratorError
from curator.publish.cells import label_cells, spellings
from curator.publish.sheet import read_sheet

FEW = settings(
    max_examples=12,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
TEXT = st.text(st.sampled_from("ab1 \"'\\,;|\t\r\n\x0b\x85\u2028é猫{}[]:"), max_size=8)
NAMES = ["cat", "a,b", 'say "x"', "né\u00ef", "two\nlines", "01"]
CASES = st.lists(st.tuples(TEXT, st.sampled_from(NAMES), TEXT), min_size=1, max_size=8)


def found(folder, content: bytes, form: str, separator: str = ","):
    path = folder / f"t.{form}"
    path.write_bytes(content)
    return label_cells(read_sheet(path, "me/x: t"), form, "label", separator)


@FEW
@given(rows=CASES, data=st.data())
def test_cells_of_csv_change_alone(tmp_path, rows, data):
    separator, end = data.draw(st.sampled_from(",;\t|")), data.draw(st.sampled_from(["\r\n", "\n"]))
    mark, last = data.draw(st.sampled_from([b"", b"\xef\xbb\xbf"])), data.draw(st.booleans())
    quoting = data.draw(st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC]))
    file = io.StringIO()
    csv.writer(file, delimiter=separator, lineterminator=end, quoting=quoting).writerows(
        [("text", "label", "x"), *rows]
    )
    text = file.getvalue() if last else file.getvalue().removesuffix(end)
    content = mark + text.encode()

    def read(content: bytes) -> list[list[str]]:
        return pd.read_csv(
            io.BytesIO(content), sep=separator, dtype=str, keep_default_na=False, engine="c"
        ).values.tolist()

    labels = found(tmp_path, content, "csv", separator)
    before = read(content)
    assert len(labels.spans) == len(before) == len(rows)
    changes = data.draw(st.dictionaries(st.integers(0, len(rows) - 1), st.sampled_from(NAMES)))
    raw = {i: labels.raw(labels.spans[i]) for i in changes}
    after = labels.replaced({i: labels.written(said, None, [raw[i]]) for i, said in changes.items()})
    assert read(after) == [[a, changes.get(i, b), c] for i, (a, b, c) in enumerate(before)]
    assert found(tmp_path, after, "csv", separator).replaced(raw) == content


@FEW
@given(rows=CASES, data=st.data())
def test_values_of_json_change_alone(tmp_path, rows, data):
    ascii_, listed = data.draw(st.booleans()), data.draw(st.booleans())
    colon, comma = data.draw(st.sampled_from([":", ": ", " :\t"])), data.draw(st.sampled_from([",", ", "]))
    items = []
    for i, (a, b, c) in enumerate(rows):
        parts = [("text", a), ("label", b), ("in", {"label": c, "n": [1, {"label": None}]})]
        parts = data.draw(st.permutations(parts)) if i % 2 else parts
        inner = (f"{json.dumps(k)}{colon}{json.dumps(v, ensure_ascii=ascii_)}" for k, v in parts)
        items.append("{" + comma.join(inner) + "}")
    text = (
        "[\n " + " ,\n ".join(items) + "]\n" if listed else "\r\n".join(items) + data.draw(st.sampled_from(["", "\n"]))
    )
    content = text.encode()
    labels = found(tmp_path, content, "json")
    assert [labels.raw(span) for span in labels.spans] == [json.dumps(b, ensure_ascii=ascii_) for _, b, _ in rows]
    changes = data.draw(st.dictionaries(st.integers(0, len(rows) - 1), st.sampled_from(NAMES)))
    after = labels.replaced({i: json.dumps(said, ensure_ascii=ascii_) for i, said in changes.items()})

    def read(content: bytes) -> list[dict]:
        said = content.decode()
        return json.loads(said) if listed else [json.loads(line) for line in said.split("\n") if line.strip()]

    assert read(after) == [{**row, "label": changes.get(i, row["label"])} for i, row in enumerate(read(content))]
    again = found(tmp_path, after, "json")
    assert again.replaced({i: labels.raw(labels.spans[i]) for i in changes}) == content


def test_classes_are_written_as_the_file_writes_them(tmp_path):
    text = b'"",label\r\n1, Cat \r\n\r\n2,"Cat"\r\n \t\r\n3,TRUE\r\n4\r\n5,dog'
    labels = found(tmp_path, text, "csv")
    assert spellings([labels], np.array([0, 0, 1, -1, 2])) == {0: "Cat", 1: "TRUE", 2: "dog"}
    assert labels.replaced({0: "dog", 1: '"a,b"'}) == text.replace(b" Cat ", b" dog ").replace(b'"Cat"', b'"a,b"')
    with pytest.raises(CuratorError, match="its row 3 has no label"):
        labels.replaced({3: "dog"})
    assert labels.written("fox", 3, ["Cat", "1"]) == "fox" and labels.written("fox", 3, ["0", "12"]) == "3"
    assert labels.written("7", None, ['"3"']) == '"7"' and labels.written('a"b', None, ["c"]) == '"a""b"'
    labels = found(tmp_path, b'{"label": 1}', "json")
    assert labels.written("True", 1, ["false"]) == "true" and labels.written("x", 1, ["0"]) == "1"
    assert labels.written("é", 1, ['"a"']) == '"\\u00e9"' and labels.written("é", 1, ['"à"']) == '"é"'


@pytest.mark.parametrize(
    "form, text, said",
    [
        ("csv", "text,name\na,b\n", "expected one column 'label' in its first line, found 0"),
        ("csv", "label,label\na,b\n", "found 2"),
        ("csv", "", "found 0"),
        ("json", '{"label": 1} 3', "expected objects of one row each"),
        ("json", '{"label": 1', "expected objects"),
        ("json", '["a"]', "expected objects"),
        ("json", "[" * 100_000, "expected objects"),
    ],
)
def test_other_files_are_refused(tmp_path, form, text, said):
    with pytest.raises(CuratorError, match=f"^me/x: t: .*{said}"):
        found(tmp_path, text.encode(), form)
