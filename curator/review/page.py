"""The page: rows that are not selected, least clean first. Everything of a stranger is escaped; nothing is changed."""

from __future__ import annotations

import base64
import html
import io
import os
from pathlib import Path

from curator.review.rows import Rows

PAGE = 64
SIDE = 128  # pixels of a thumbnail

CSS = """
.grid {display: grid; grid-template-columns: repeat(auto-fill, minmax(128px, 1fr)); gap: 12px}
.grid figure {margin: 0; overflow: hidden}
.grid img {width: 100%; aspect-ratio: 1; object-fit: contain; image-rendering: pixelated;
    background: #8882; border-radius: 6px}
.grid figcaption {font-size: 13px; line-height: 1.35; overflow-wrap: anywhere}
.grid small {opacity: .65}
"""


def launch(folder: Path, port: int) -> None:
    """Serve the page of a run on this machine only, until Ctrl-C."""
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    rows = Rows(folder)
    page = build(rows, folder.name)
    page.launch(server_name="127.0.0.1", server_port=port, css=CSS, share=False)


def build(rows: Rows, name: str):
    """The Gradio page."""
    import gradio as gr

    facts = rows.facts
    with gr.Blocks(title=f"Curator: {name}") as page:
        gr.HTML(
            f"<h2>{html.escape(name)}</h2><p>{len(rows.order):,} of {facts['n']:,} labels are held to be wrong by "
            f"{html.escape(facts['method'])}; least clean first, given → suggested.</p>"
        )
        with gr.Row():
            classes = [("all classes", -1), *((_short(c, 40), i) for i, c in enumerate(rows.classes))]
            given = gr.Dropdown(classes, value=-1, label="given class")
            number = gr.Number(1, label="page", precision=0, minimum=1)
            before, after = gr.Button("Previous"), gr.Button("Next")
        grid = gr.HTML()

        def show(given: int, number: int) -> tuple[str, int]:
            return render(rows, int(given), int(number or 1))

        inputs, outputs = [given, number], [grid, number]
        page.load(show, inputs, outputs, api_name="show")
        given.change(lambda g: render(rows, int(g), 1), given, outputs)
        number.submit(show, inputs, outputs)
        before.click(lambda g, n: show(g, n - 1), inputs, outputs)
        after.click(lambda g, n: show(g, n + 1), inputs, outputs)
    return page


def render(rows: Rows, given: int, number: int) -> tuple[str, int]:
    """A page of the grid as HTML, and its number, brought into range; given: a class number, -1 for all."""
    order = rows.order if given < 0 else rows.order[rows.given[rows.order] == given]
    pages = max(1, -(-len(order) // PAGE))
    number = min(max(1, number), pages)
    shown = order[(number - 1) * PAGE : number * PAGE]
    figures = [_figure(rows, int(i), image) for i, image in zip(shown, rows.images(shown), strict=True)]
    return f"<p>page {number} of {pages}, {len(order):,} rows</p><div class='grid'>{''.join(figures)}</div>", number


def _figure(rows: Rows, i: int, image: bytes) -> str:
    names = (html.escape(_short(rows.classes[c])) for c in (rows.given[i], rows.corrected[i]))
    caption = "<bdi>{}</bdi> → <b><bdi>{}</bdi></b>".format(*names)
    try:
        picture = f"<img src='{_thumbnail(image)}' alt='row {rows.row[i]}' loading='lazy'>" if image else ""
    except OSError:  # it cannot be decoded
        picture = ""
    place = f"row {rows.row[i]}, clean {rows.score[i]:.3f}"
    return f"<figure>{picture}<figcaption>{caption}<br><small>{place}</small></figcaption></figure>"


def _short(name: str, length: int = 24) -> str:
    name = " ".join(name.split())
    return name if len(name) <= length else name[: length - 1] + "…"


def _thumbnail(image: bytes) -> str:
    """An image as a PNG data address; large ones are made small, small ones stay as they are."""
    from PIL import Image, ImageOps

    picture = ImageOps.exif_transpose(Image.open(io.BytesIO(image))).convert("RGB")
    picture.thumbnail((SIDE, SIDE))
    file = io.BytesIO()
    picture.save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
