"""Models of every family, as refinement's tests have them."""

from tests.refinement.conftest import berts, cases, t5s, towers  # noqa: F401 - fixtures
