"""tinydistill beside the vectors, and nothing but the vectors: the checks of vector_checks.py."""

import pytest

from vector_checks import CHECKS


@pytest.mark.parametrize("name", CHECKS)
def test_ours(name):
    CHECKS[name]()
