"""What a sequence-to-sequence model is trained on (Bao et al. 2020): sources and targets as pseudo-masked batches.

    [CLS] s [SEP] | t [SEP] | a pseudo token for each token of the target, its [SEP] too

Source: microsoft/unilm, s2s-ft/s2s_ft/utils.py.
"""

import numpy as np

from tinydistill.backend import random_bits, stream
from tinydistill.errors import WrongUsage
from tinydistill.students.unilm import pseudo_masked_batch

SITE = stream("pseudo-masking")


def pack(sources, targets, special, max_source, max_target):
    """(source ids, mask, target ids, mask): rows of token ids without special tokens, framed, cut and padded.

    Shapes: NumPy, (B, S) twice and (B, N) twice. A source of more than max_source tokens, [CLS] and [SEP] included,
    loses its end, a target of more than max_target with [SEP] too; [SEP] stays.
    """
    if max_source < 2 or max_target < 1:
        raise WrongUsage(f"need room for [CLS] and [SEP] of the source, and [SEP] of the target: "
                         f"max_source {max_source}, max_target {max_target}")
    framed = [[special.cls, *source[:max_source - 2], special.sep] for source in sources]
    ended = [[*target[:max_target - 1], special.sep] for target in targets]
    return *_padded(framed, special.pad), *_padded(ended, special.pad)


def _padded(rows, pad):
    mask = np.arange(max(map(len, rows))) < np.array([len(row) for row in rows])[:, None]
    ids = np.full(mask.shape, pad, np.int64)
    ids[mask] = np.concatenate(rows)
    return ids, mask


def corrupted(ids, rows, special, vocabulary_size, word_drop=0.5, seed=0, step=0):
    """(pseudo ids, visible ids) of targets: what stands at the pseudo tokens, and what at the target's own.

    A pseudo token is [MASK] (80 %), a random token (10 %), or the target's own, which then is given away (10 %). With
    probability `word_drop` the target's own place holds that pseudo token, too, so that the tokens after it see it.
    Random tokens are uniform over the whole vocabulary. The draw depends on (seed, step, row, place) alone.
    Shapes: NumPy; ids (B, N), rows (B,).
    Source: microsoft/unilm s2s-ft: `--target_mask_prob`, 0.5 unless given; its README takes 0.4 to 0.5 for XSum, 0.7 to
    0.8 for CNN/DailyMail.
    """
    if not 0 <= word_drop <= 1:
        raise WrongUsage(f"need a share of dropped words from 0 to 1, got {word_drop}")
    N = ids.shape[1]
    drawn = np.stack([random_bits(4 * N, seed, row, SITE, step) for row in rows]).reshape(-1, N, 4).astype(np.uint64)
    kind = drawn[..., 0] / 2 ** 16                                                      # (B, N) in [0, 1)
    any_token = ((drawn[..., 1] << 16 | drawn[..., 2]) * vocabulary_size) >> 32
    pseudo = np.where(kind < 0.8, special.mask, np.where(kind < 0.9, any_token, ids)).astype(ids.dtype)
    return pseudo, np.where(drawn[..., 3] < word_drop * 2 ** 16, pseudo, ids)


def pseudo_masked(sources, targets, special, vocabulary_size, max_source, max_target, word_drop=0.5, types=(0, 1),
                  seed=0, step=0):
    """The Batch of a training step: rows of token ids in, every target token predicted once."""
    source_ids, source, target_ids, target = pack(sources, targets, special, max_source, max_target)
    rows = np.arange(len(source))
    pseudo, visible = corrupted(target_ids, rows, special, vocabulary_size, word_drop, seed, step)
    return pseudo_masked_batch(source_ids, source, target_ids, target, pseudo, visible, types, rows)
