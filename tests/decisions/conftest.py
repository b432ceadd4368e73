from contextlib import closing

import pytest

from curator.decisions.journal import Journal
from tests.decisions.steps import FACTS


@pytest.fixture
def journal(tmp_path):
    with closing(Journal(tmp_path / "review.sqlite", FACTS)) as journal:
        yield journal
