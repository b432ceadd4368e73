import sys
import tomllib

import curator
from tests.conftest import ROOT

IMPORT_NAMES = {"scikit-learn": "sklearn", "huggingface-hub": "huggingface_hub", "pyyaml": "yaml"}


def test_nothing_in_curator_hides_another_module():
    """accelerate launch puts curator/ first on the path: a module `queue` or `datasets` would hide the real one."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = project["dependencies"] + [d for group in project["optional-dependencies"].values() for d in group]
    packages = {d.split(">")[0].split("[")[0] for d in wanted}
    taken = (
        sys.stdlib_module_names
        | {IMPORT_NAMES.get(p, p.replace("-", "_")) for p in packages}
        | {"pyarrow", "PIL", "pandas"}
    )
    here = {
        p.stem for p in (ROOT / "curator").iterdir() if p.suffix == ".py" or (p.is_dir() and p.name != "__pycache__")
    }
    assert not (here - {"__init__"}) & taken


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
        "import bench.gpu, bench.step, bench.reference_step\n"  # they travel to machines without datasets
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
