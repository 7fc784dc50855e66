"""Sources and targets as pseudo-masked batches: framed, cut, padded, corrupted by counted random numbers."""

import numpy as np
import pytest

from small_bert import VOCABULARY, build
from tinydistill.data import unilm as data
from tinydistill.data.tokenizer import SpecialIds
from tinydistill.errors import WrongUsage
from tinydistill.features import IGNORED, Needs, Pass

MASK_ID = 5
SPECIAL = SpecialIds(pad=0, unk=1, cls=2, sep=3, mask=MASK_ID)


def test_rows_are_framed_cut_and_padded():
    ids, mask, target, target_mask = data.pack([[10, 11, 12, 13], [14], []], [[20, 21, 22], [], [23]], SPECIAL, 5, 3)
    assert ids.tolist() == [[2, 10, 11, 12, 3], [2, 14, 3, 0, 0], [2, 3, 0, 0, 0]]
    assert target.tolist() == [[20, 21, 3], [3, 0, 0], [23, 3, 0]]
    assert mask.sum(1).tolist() == [5, 3, 2] and target_mask.sum(1).tolist() == [3, 1, 2]
    for most in ((1, 3), (5, 0)):
        with pytest.raises(WrongUsage, match="need room for"):
            data.pack([[1]], [[1]], SPECIAL, *most)
    ids, _, target, _ = data.pack([[9, 9]], [[9]], SPECIAL, 2, 1)
    assert ids.tolist() == [[2, 3]] and target.tolist() == [[3]]


def test_pseudo_tokens_are_corrupted_and_words_drop():
    ids = np.full((40, 250), 900)
    pseudo, visible = data.corrupted(ids, np.arange(40), SPECIAL, 1000, word_drop=0.3, seed=3, step=2)
    shares = [(pseudo == MASK_ID).mean(), (pseudo == 900).mean()]
    assert np.abs(np.array(shares) - [0.8, 0.1]).max() < 0.02
    rest = pseudo[(pseudo != MASK_ID) & (pseudo != 900)]
    assert len(rest) > 800 and rest.min() < 20 and rest.max() >= 980 and abs(rest.mean() - 499.5) < 40
    differs = pseudo != 900
    assert ((visible == pseudo) | (visible == 900)).all()
    assert abs((visible != 900)[differs].mean() - 0.3) < 0.02
    dropped = visible == MASK_ID                    # independent of what the pseudo token became
    assert abs(dropped.sum() / (pseudo == MASK_ID).sum() - 0.3) < 0.02
    for share, kept in ((0.0, ids), (1.0, pseudo)):
        np.testing.assert_array_equal(data.corrupted(ids, np.arange(40), SPECIAL, 1000, share, 3, 2)[1], kept)
    for changed in ({"seed": 4}, {"step": 3}):
        other, _ = data.corrupted(ids, np.arange(40), SPECIAL, 1000, **{"seed": 3, "step": 2} | changed)
        assert (other != pseudo).any()
    np.testing.assert_array_equal(data.corrupted(ids[5:], np.arange(5, 40), SPECIAL, 1000, 0.3, 3, 2)[0], pseudo[5:])
    for share in (-0.1, 1.1):
        with pytest.raises(WrongUsage, match="share of dropped words"):
            data.corrupted(ids, np.arange(40), SPECIAL, 1000, share)


def test_a_training_step_in_one_call():
    batch = data.pseudo_masked([[10, 11], [12]], [[20, 21], [22]], SPECIAL, 30, 8, 5, seed=1)
    assert batch.ids.shape == (2, 4 + 2 * 3) and batch.labels[batch.labels != IGNORED].tolist() == [20, 21, 3, 22, 3]
    assert batch.ids[:, :4].tolist() == [[2, 10, 11, 3], [2, 12, 3, 0]] and len(batch.positions) == 5
    again = data.pseudo_masked([[10, 11], [12]], [[20, 21], [22]], SPECIAL, 30, 8, 5, seed=1)
    np.testing.assert_array_equal(batch.ids, again.ids)
    other = [data.pseudo_masked([[10, 11], [12]], [[20, 21], [22]], SPECIAL, 30, 8, 5, **more).ids
             for more in ({"seed": 2, "word_drop": 1.0}, {"seed": 1, "word_drop": 1.0})]
    assert (other[1][:, 4:7][batch.mask[:, 4:7]] == other[1][:, 7:][batch.mask[:, 7:]]).all()
    assert (other[0] != other[1]).any()
    logits = build("masked-lm")(batch, Pass(Needs.of(logits=True))).logits
    assert logits.shape == (5, VOCABULARY)
