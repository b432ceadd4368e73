"""The order of the rooms: a room imports only rooms before it, and no import goes in a circle."""

import ast
from pathlib import Path

import pytest

import curator

HOME = Path(curator.__file__).parent
ORDER = (
    ("errors", "system", "text", "delimited", "bars"), ("evidence",), ("signals",), ("engine",), ("methods",),
    ("decisions",), ("config",), ("sources",), ("result",), ("publish",), ("review",),
    ("curate", "train", "library"), ("cli",),
)  # fmt: skip
RANK = {room: place for place, rooms in enumerate(ORDER) for room in rooms}
MODULES = {
    ".".join(path.relative_to(HOME).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(HOME.rglob("*.py"))
    if path.relative_to(HOME).parts[0] not in ("__init__.py", "clean.py", "recipes")
}


def imported(path: Path, *, at_import: bool) -> set[str]:
    """Modules of curator (without "curator.") that a file imports; at_import: outside functions only."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    inside = {
        id(n) for f in ast.walk(tree) if isinstance(f, ast.FunctionDef | ast.AsyncFunctionDef) for n in ast.walk(f)
    }
    typing_only = {id(n) for i in tree.body if isinstance(i, ast.If) for n in ast.walk(i)}
    found = set()
    for node in ast.walk(tree):
        if at_import and (id(node) in inside or id(node) in typing_only):
            continue
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "curator":
            module = (node.module or "").partition(".")[2]
            for name in node.names:
                full = f"{module}.{name.name}".strip(".")
                found.add(full if full in MODULES else module)
        elif isinstance(node, ast.Import):
            found |= {name.name.partition(".")[2] for name in node.names if name.name.split(".")[0] == "curator"}
    return found


@pytest.mark.parametrize("module", MODULES)
def test_a_room_imports_only_rooms_before_it(module):
    own = module.split(".")[0]
    for other in imported(MODULES[module], at_import=False):
        room = other.split(".")[0]
        assert room in RANK, f"{module} imports {other or 'curator itself'}"
        assert RANK[room] <= RANK[own], f"{module} imports {other}, a room after its own"


def test_no_import_goes_in_a_circle():
    edges = {module: imported(path, at_import=True) & set(MODULES) for module, path in MODULES.items()}
    while edges:
        free = [module for module, others in edges.items() if not others & set(edges)]
        assert free, f"circle among {', '.join(sorted(edges))}"
        for module in free:
            del edges[module]


def test_modules_are_short():
    lengths = sorted(len(path.read_text(encoding="utf-8").splitlines()) for path in MODULES.values())
    assert lengths[-1] <= 400
    assert lengths[len(lengths) // 2] <= 140
