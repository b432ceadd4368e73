import re
import sys
from types import SimpleNamespace

import pytest

from curator.bars import in_notebook, tqdm
from tests.conftest import ROOT


@pytest.mark.parametrize("config, shown", [({"IPKernelApp": {}}, True), ({}, False)])
def test_a_bar_in_a_notebook(monkeypatch, capsys, config, shown):
    """Its output is no terminal; that of a command in a pipe, or of IPython's tests, neither, and stays silent."""
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: SimpleNamespace(config=config)))
    assert in_notebook() is shown
    for disable, wanted in ((None, shown), (True, False)):
        with tqdm(total=4, disable=disable) as bar:
            bar.update(2)
            assert bar.disable is not wanted
        assert ("2/4" in "".join(capsys.readouterr())) is wanted


def test_no_notebook(monkeypatch):
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    assert not in_notebook()


def test_every_bar_is_one_of_these():
    """One made by tqdm itself would not show in a notebook."""
    found = [
        path
        for path in (ROOT / "curator").rglob("*.py")
        if re.search(r"^\s*(from|import) tqdm", path.read_text(), re.M)
    ]
    assert found == [ROOT / "curator" / "bars.py"]
