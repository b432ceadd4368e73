import inspect
import types
import typing

import pytest

import curator
from curator.config.flags import Settings, hints
from curator.library.keywords import Keywords

OF_PYTHON = {"labels", "features"}  # which no command line can be given
OWN = {"dataset", "method", "dry_run"}  # parameters that stand in the signature itself


def types_of(hint) -> set:
    """The types that a hint allows, without what is annotated."""
    if typing.get_origin(hint) is typing.Annotated:
        return types_of(typing.get_args(hint)[0])
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return {kind for part in typing.get_args(hint) for kind in types_of(part)}
    return {hint}


@pytest.fixture(scope="module")
def keywords() -> dict:
    from numpy.typing import ArrayLike
    from torch import Tensor

    return typing.get_type_hints(Keywords, localns={"ArrayLike": ArrayLike, "Tensor": Tensor})


def test_keywords_are_the_flags(keywords):
    assert keywords.keys() == {*hints(Settings), *OF_PYTHON} - OWN
    for name, hint in hints(Settings).items():
        if name not in OWN:
            assert types_of(hint) <= types_of(keywords[name]), name


def test_signature_and_docstring_name_every_keyword(keywords):
    shown = inspect.signature(curator.curate).parameters
    assert list(shown) == ["dataset", "method", "dry_run", *keywords, "settings"]
    assert all(shown[name].kind is inspect.Parameter.KEYWORD_ONLY for name in keywords)
    documented = inspect.getdoc(curator.curate).partition("**settings:")[2].partition("Returns:")[0]
    words = {name for line in documented.splitlines() for name in line.partition(":")[0].replace(",", " ").split()}
    assert words >= {*keywords}
