"""The finished run and the Hub of the tests of publishing."""

from tests.publish.conftest import hub, run  # noqa: F401
