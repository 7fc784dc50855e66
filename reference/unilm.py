"""UniLM's attention masks (Dong et al. 2019; Bao et al. 2020): True where a query (row) may see a key (column).

    bidirectional   every real token
    left_to_right   the real tokens before it, and itself
    seq2seq         of [source | target]: the source sees the source; a target token the source, the target tokens
                    before it, and itself
    pseudo_mask     of [source | target | pseudo]: seq2seq, and behind it a token for each target token, which sees the
                    source, the target before that token, and itself, and is seen by nobody else

Source: microsoft/unilm s2s-ft/s2s_ft/utils.py and modeling.py; unverified against the papers. The blocks of UniLMv2's
pre-training, where a pseudo token sees the others of its span, are not here.

Nobody sees padding. What padding sees is nobody's business: rows "all" is as published (in the last two it sees the
source), rows "real" lets it see nothing.
Shapes: mask (B, T) -> (B, T, T); source (B, S), target (B, N) -> (B, S + N, S + N), or S + 2N.

Traps
  - rows are queries: the transpose lets a token see what comes after it
  - a token sees itself, but a pseudo token does not see the token in whose place it stands
"""

import numpy as np

from tinydistill_reference.conventions import need


def table(real, sees, rows):
    """(B, T, T) of real tokens (B, T): sees(i, j) says which real keys a row looks at."""
    B, T = real.shape
    found = np.zeros((B, T, T), bool)
    for b, i, j in np.ndindex(B, T, T):
        found[b, i, j] = real[b, j] and sees(b, i, j) and (rows == "all" or real[b, i])
    return found


def bidirectional(mask, *, rows="all"):
    need(mask.ndim == 2, f"a mask (B, T): {mask.shape}")
    return table(mask, lambda b, i, j: True, rows)


def left_to_right(mask, *, rows="all"):
    need(mask.ndim == 2, f"a mask (B, T): {mask.shape}")
    return table(mask, lambda b, i, j: j <= i, rows)


def seq2seq(source, target, *, rows="all"):
    need(len(source) == len(target), f"as many sources as targets: source {source.shape}, target {target.shape}")
    S, real = source.shape[1], np.concatenate([source, target], axis=1)
    return table(real, lambda b, i, j: j < S or (i >= S and j <= i and real[b, i]), rows)


def pseudo_mask(source, target, *, rows="all"):
    need(len(source) == len(target), f"as many sources as targets: source {source.shape}, target {target.shape}")
    S, N, real = source.shape[1], target.shape[1], np.concatenate([source, target, target], axis=1)

    def sees(b, i, j):
        if j < S:
            return True
        if i < S or not real[b, i]:
            return False
        if i < S + N:                                   # a target token
            return j <= i
        return j < i - N or j == i                      # a pseudo token: i - N is the token in whose place it stands
    return table(real, sees, rows)
