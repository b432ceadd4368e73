"""What people remarked on rows, as columns of a version."""

from __future__ import annotations

import pyarrow as pa

from curator.errors import CuratorError
from curator.result.read import Rows

COLUMNS = {"notes": pa.string(), "tags": pa.list_(pa.string())}


def remark_columns(rows: Rows, remarks: dict[int, tuple[str, list[str]]]) -> dict[str, pa.Array]:
    """Columns of the n rows by name, notes (one a line) and tags; none where nobody remarked anything.

    Where the dataset has a column of that name, it is review_notes or review_tags.

    Args:
        rows: the run.
        remarks: row -> notes and tags.

    Raises:
        CuratorError: where the dataset has those, too.
    """
    here = [(row, said) for row, said in remarks.items() if rows.position(row) is not None]
    if not here:
        return {}
    found = {}
    for place, (column, kind) in enumerate(COLUMNS.items()):
        name = column if column not in rows.schema.names else f"review_{column}"
        if name in rows.schema.names:
            raise CuratorError(
                f"the dataset has columns {column} and {name}; rename one to publish the review's {column}"
            )
        values: list[str | list[str] | None] = [None] * len(rows)
        for row, said in here:
            values[int(rows.positions([row])[0])] = said[place] or None
        found[name] = pa.array(values, kind)
    return found
