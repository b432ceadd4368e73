"""What Gradio makes of the page: under a path of a proxy, and without words of its own."""

import warnings

from starlette.testclient import TestClient

from curator.review import page


def test_under_a_path_of_a_proxy(monkeypatch, recwarn):
    """GRADIO_ROOT_PATH is what the browser asks below; what else the page names is beside it."""
    import gradio as gr

    class Warns(gr.Blocks):
        def __init__(self, **options):
            super().__init__(**options)
            warnings.warn("Please pass these parameters to launch() instead", UserWarning, stacklevel=2)

    monkeypatch.setattr(gr, "Blocks", Warns)
    monkeypatch.setenv("GRADIO_ROOT_PATH", "/labels")
    text = TestClient(page.build(), base_url="http://here").get("/").text
    assert '"root":"http://here/labels"' in text and 'src="./assets/' in text and 'src="/' not in text
    assert not [w for w in recwarn if "launch()" in str(w.message)]
