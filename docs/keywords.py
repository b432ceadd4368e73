"""An extension of griffe: the keywords of curate(), which its docstring has in lines, become a list on the page."""

from __future__ import annotations

import re
from typing import Any

import griffe


class Keywords(griffe.Extension):
    """Lines `name: text` below **settings get a mark of their own."""

    def on_function(self, *, func: griffe.Function, **_: Any) -> None:
        """Change the docstring before it is parsed."""
        if func.docstring and "**settings:" in func.docstring.value:
            before, mark, after = func.docstring.value.partition("**settings:")
            listed = re.sub(r"^ {8}(\w[\w, ]*): ", r"        - \1: ", after, flags=re.M)
            func.docstring.value = before + mark + listed.replace("\n        - ", "\n\n        - ", 1)
