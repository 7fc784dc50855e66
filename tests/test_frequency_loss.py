"""What a model that reads no context comes to."""

import numpy as np
import pytest

from tinydistill.data import inputs
from tinydistill.data.batches import Batches
from tinydistill.features import IGNORED, Batch


def test_it_is_the_cross_entropy_of_the_training_rows_frequencies_on_the_hidden_tokens():
    """Words 0 to 3 are seen 0, 4, 1 and 0 times: p = (1, 5, 2, 1) / 9."""
    rows = Batches([np.array([1, 1, 2]), np.array([1, 1])], 2, 0, pad_id=0)
    mask = np.ones((1, 4), bool)
    unseen = [Batch(mask, mask, labels=np.array([[IGNORED, 1, 3, IGNORED]])), Batch(mask, mask, labels=np.array([[2, 1, 1, 1]]))]
    p = np.array([1, 5, 2, 1]) / 9
    assert inputs.frequency_loss(rows, unseen, 4) == pytest.approx(-np.log(p[[1, 3, 2, 1, 1, 1]]).mean(), rel=1e-12)
