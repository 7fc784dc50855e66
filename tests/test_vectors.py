"""tinydistill beside the vectors, and nothing but the vectors: the checks of vector_checks.py."""

import pytest

from tinydistill_reference import store
from vector_checks import CHECKS


@pytest.mark.parametrize("name", CHECKS)
def test_ours(name):
    CHECKS[name]()


def test_every_equation_is_compared_with_ours():
    """But one step of an LSTM that starts from a state: ours reads whole sequences."""
    assert {name.split()[0] for name in CHECKS} == set(store.names()) - {"lstm_cell"}
