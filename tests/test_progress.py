import sys
from types import SimpleNamespace

import pytest

from curator.progress import in_notebook, tqdm


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
