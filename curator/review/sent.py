"""What a page sends, checked before anything is done with it."""

from __future__ import annotations

from typing import Any

from curator.decisions.decision import ACTIONS
from curator.decisions.journal import KINDS
from curator.errors import CuratorError
from curator.result.read import Rows

KEY = 8, 100  # characters of a step's key, at least and at most
TYPES = {int: "a whole number from 0 on", str: "text", list: "a list"}


def field(data: Any, name: str, kind: type, *default: Any) -> Any:
    """A field of what a page sends, or the default where it is missing or null.

    Raises:
        CuratorError: for another type, a number that no row or class has, or text that cannot be written.
    """
    value: Any = data.get(name) if isinstance(data, dict) else None
    if value is None and default:
        return default[0]
    fits = type(value) is kind
    if fits and kind is int:
        fits = 0 <= value < 1 << 62
    if fits and kind is str:
        fits = value == value.encode("utf-8", "ignore").decode()
    if not fits:
        raise CuratorError(f"{name}: expected {TYPES[kind]}")
    return value


def checked(step: Any, rows: Rows) -> dict[str, Any]:
    """A step of a page as the journal takes it: labels by name, and nothing that is not there.

    Raises:
        CuratorError: for what no page of this run would send.
    """
    kind, key = field(step, "kind", str), field(step, "key", str)
    if kind not in (*KINDS, "audit") or not KEY[0] <= len(key) <= KEY[1]:
        raise CuratorError(f"expected a step with a key and one of the kinds {', '.join(KINDS)}, audit")
    if kind == "do":
        acts = [_act(act, rows) for act in field(step, "rows", list)]
        if not acts:
            raise CuratorError("expected a step that decides a row")
        return {"key": key, "kind": kind, "rows": acts}
    if kind == "audit":
        label = field(step, "label", int, None)
        of = {"audit": field(step, "audit", int), "row": field(step, "row", int)}
        return {"key": key, "kind": kind, **of, "label": None if label is None else _name(label, rows)}
    return {"key": key, "kind": kind, "target": field(step, "target", str, None)}


def _act(act: Any, rows: Rows) -> tuple:
    """(row, action, label) by name, with the second right label of both: that is the label that the page sends."""
    if not isinstance(act, list) or len(act) != 3:
        raise CuratorError("expected a row, an action and a label")
    named = dict(zip(("row", "action", "label"), act, strict=True))
    row, action, label = field(named, "row", int), field(named, "action", str), field(named, "label", int, None)
    position = rows.position(row)
    if position is None or action not in ACTIONS:
        raise CuratorError(f"expected a row of the run and one of {', '.join(ACTIONS)}")
    given = int(rows.given[position])
    if action in ("relabel", "both") and label == given:
        action = "keep"
    if action == "keep":
        return row, action, _name(given, rows)
    if action == "both":
        return row, action, _name(given, rows), _name(label, rows)
    return row, action, _name(label, rows) if action == "relabel" else None


def _name(label: int | None, rows: Rows) -> str:
    if label is None or not 0 <= label < len(rows.classes):
        raise CuratorError(f"expected a class number below {len(rows.classes)}")
    return rows.classes[label]
