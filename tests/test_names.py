import ast
import sys
import tomllib

import pytest

import curator
from tests.conftest import ROOT

IMPORT_NAMES = {
    "scikit-learn": "sklearn",
    "opentsne": "openTSNE",
    "umap-learn": "umap",
    "faiss-cpu": "faiss",
    "pyyaml": "yaml",
    "pillow": "PIL",
}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def packages(requirements: list[str]) -> set[str]:
    """What requirements are imported as."""
    names = {r.split(">")[0].split("[")[0] for r in requirements}
    return {IMPORT_NAMES.get(name, name.replace("-", "_")) for name in names}


def test_nothing_in_curator_hides_another_module():
    """accelerate launch puts curator/ first on the path: a module `queue` or `datasets` would hide the real one."""
    wanted = PROJECT["dependencies"] + [d for group in PROJECT["optional-dependencies"].values() for d in group]
    taken = sys.stdlib_module_names | packages(wanted) | {"pandas"}
    here = {
        p.stem for p in (ROOT / "curator").iterdir() if p.suffix == ".py" or (p.is_dir() and p.name != "__pycache__")
    }
    assert not (here - {"__init__"}) & taken


def test_every_package_that_is_imported_is_a_dependency():
    """One that another package brings along today may go tomorrow."""
    found = {"jinja2"}  # by DatasetCard.from_template
    for path in (ROOT / "curator").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {name.name.split(".")[0] for name in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                found.add(str(node.module).split(".")[0])
    extra = {p for name in ("transformers", "text", "space") for p in packages(PROJECT["optional-dependencies"][name])}
    assert found - sys.stdlib_module_names - {"curator"} - extra == packages(PROJECT["dependencies"])


def test_public_names():
    assert sorted(curator.__all__) == ["CuratorError", "curate"]
    assert callable(curator.curate)


def test_engine_and_methods_import_only_torch_numpy_and_accelerate():
    """They run where `datasets` and `gradio` are absent."""
    import subprocess

    code = (
        "import sys\n"
        "for name in ('datasets', 'gradio', 'pyarrow', 'sklearn', 'yaml', 'tyro', 'cleanlab', 'matplotlib'):\n"
        "    sys.modules[name] = None\n"
        "import curator.methods, curator.engine.run, curator.engine.nets, curator.evidence\n"
        "import bench.gpu_slice, bench.reference_step, tests.test_gpu\n"  # they travel to machines without datasets
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


@pytest.mark.parametrize("given, waiting, turns", [(None, None, "20000"), ("active", "active", None)])
def test_threads_wait_for_a_moment_unless_the_user_says_otherwise(given, waiting, turns):
    """OpenMP reads it when torch is loaded, which neither the import nor the command have done by then."""
    import os
    import subprocess

    code = (
        "import os, sys, runpy\n"
        "sys.modules['torch'] = None\n"
        "runpy.run_path('curator/clean.py')\n"
        "import curator, curator.cli.main\n"
        f"assert os.environ.get('OMP_WAIT_POLICY') == {waiting!r} and os.environ.get('GOMP_SPINCOUNT') == {turns!r}\n"
    )
    env = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_", "KMP_"))}
    env |= {} if given is None else {"OMP_WAIT_POLICY": given}
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, env={**env, "PYTHONPATH": str(ROOT)})
