"""UniLM (Dong et al. 2019; Bao et al. 2020): the attention mask says what kind of language model a Transformer is.

    bidirectional    every token sees every token                                   (BERT)
    left to right    a token sees itself and what is before it
    seq2seq          a source token sees the source; a target token sees the source, itself and the target before it
    pseudo-masked    seq2seq, and behind the target one [MASK] for each of its tokens, which has that token's position,
                     sees the source, the target before that token, and itself, and is seen by nobody else

So a pseudo-masked pass predicts every target token from what is left of it, all at once, and gives at each [MASK] what
a model that writes one token after the other has there: the source, the target so far, one [MASK].

Masks go into `Batch.attention_mask` of any student: True where a query (row) may see a key (column). Nobody sees
padding; padded rows see the source. Source and target are padded to the right, each for itself, and stand behind one
another: [source | target] or [source | target | pseudo].

Source: microsoft/unilm, s2s-ft/s2s_ft/utils.py and modeling.py (unverified against the papers).
"""

from dataclasses import replace

from tinydistill.backend import xp_of
from tinydistill.features import IGNORED, Batch


def bidirectional(mask):
    """Every token sees all real tokens: what no attention_mask means, too. Shapes: (B, T) -> (B, T, T)."""
    return mask[:, None, :] & xp_of(mask).ones((1, mask.shape[1], 1), bool)


def left_to_right(mask):
    """A token sees itself and the real tokens before it. Shapes: (B, T) -> (B, T, T).

    >>> import numpy as np
    >>> left_to_right(np.array([[True, True, False]]))[0].astype(int)
    array([[1, 0, 0],
           [1, 1, 0],
           [1, 1, 0]])
    """
    return mask[:, None, :] & _up_to(mask)


def seq2seq(source, target):
    """The source sees itself; the target sees the source, and itself from the left.

    Shapes: source (B, S), target (B, N), True at real tokens -> (B, S + N, S + N).

    >>> import numpy as np
    >>> seq2seq(np.array([[True, True]]), np.array([[True, True]]))[0].astype(int)
    array([[1, 1, 0, 0],
           [1, 1, 0, 0],
           [1, 1, 1, 0],
           [1, 1, 1, 1]])
    """
    xp, (B, S), N = xp_of(source), source.shape, target.shape[1]
    return xp.concatenate([
        xp.broadcast_to(source[:, None, :], (B, S + N, S)),             # everybody sees the source
        xp.concatenate([xp.zeros((B, S, N), bool), _real(target) & _up_to(target)], axis=1)], axis=2)


def pseudo_masked(source, target):
    """The mask of [source | target | pseudo]: seq2seq, and each pseudo token in the place of its target token.

    Shapes: source (B, S), target (B, N), True at real tokens -> (B, S + 2N, S + 2N).

    >>> import numpy as np
    >>> pseudo_masked(np.array([[True]]), np.array([[True, True]]))[0].astype(int)
    array([[1, 0, 0, 0, 0],
           [1, 1, 0, 0, 0],
           [1, 1, 1, 0, 0],
           [1, 0, 0, 1, 0],
           [1, 1, 0, 0, 1]])
    """
    xp, (B, S), N = xp_of(source), source.shape, target.shape[1]
    itself = xp.eye(N, dtype=bool)
    before, real = _up_to(target) & ~itself, _real(target)
    of_pseudo = xp.concatenate([real & before, real & itself], axis=2)                  # (B, N, 2N)
    return xp.concatenate([
        xp.concatenate([seq2seq(source, target), xp.zeros((B, S + N, N), bool)], axis=2),
        xp.concatenate([xp.broadcast_to(source[:, None, :], (B, N, S)), of_pseudo], axis=2)], axis=1)


def position_ids(source, target):
    """(source's, target's): the target goes on where the source's real tokens end; padding is at 0.

    Shapes: (B, S), (B, N) bool -> (B, S), (B, N) integers.

    >>> import numpy as np
    >>> position_ids(np.array([[True, True, False]]), np.array([[True, True, False]]))
    (array([[0, 1, 0]]), array([[2, 3, 0]]))
    """
    xp = xp_of(source)
    length = source.sum(axis=1, keepdims=True)                                          # (B, 1)
    return xp.arange(source.shape[1]) * source, (xp.arange(target.shape[1]) + length) * target


def seq2seq_batch(source_ids, source, target_ids, target, types=(0, 1), rows=None, indices=None):
    """[source | target] as a Batch, to read or to go on writing; NumPy.

    Shapes: ids (B, S), (B, N) with their masks. types: the token types of source and target: 0, 1 of a BERT or MiniLM;
    4, 5 of UniLM's own models, which have six. rows, indices: of the Batch.
    """
    return _batch([source_ids, target_ids], [source, target], position_ids(source, target),
                  (types[0], types[1]), seq2seq(source, target), rows, indices)


def pseudo_masked_batch(source_ids, source, target_ids, target, pseudo_ids, visible_ids=None, types=(0, 1), rows=None,
                        indices=None):
    """[source | target | pseudo] as a Batch, whose labels are the target's tokens, each at its pseudo token; NumPy.

    The label is the token itself, at its own position: nothing is shifted. The loss is `masked_lm`, the mean over the
    batch's target tokens; published code adds 1e-5 to their number.
    Shapes: ids (B, S), (B, N) with their masks; pseudo_ids (B, N), or one id such as [MASK]'s, what stands at the
    pseudo tokens; visible_ids (B, N), what stands in the place of the target's own tokens (word drop), None: these.
    """
    xp = xp_of(target_ids)
    pseudo_ids = xp.broadcast_to(xp.asarray(pseudo_ids, target_ids.dtype), target_ids.shape)
    visible_ids = target_ids if visible_ids is None else visible_ids
    of_source, of_target = position_ids(source, target)
    batch = _batch([source_ids, visible_ids, pseudo_ids], [source, target, target], [of_source, of_target, of_target],
                   (types[0], types[1], types[1]), pseudo_masked(source, target), rows, indices)
    labels = xp.full(batch.ids.shape, IGNORED, target_ids.dtype)
    labels[:, -target.shape[1]:] = xp.where(target, target_ids, IGNORED)
    return replace(batch, labels=labels, positions=xp.flatnonzero(labels != IGNORED))


def _batch(ids, masks, places, types, attention_mask, rows, indices):
    xp = xp_of(ids[0])
    token_types = [xp.full(mask.shape, kind, ids[0].dtype) for mask, kind in zip(masks, types)]
    return Batch(xp.concatenate(ids, axis=1), xp.concatenate(masks, axis=1), xp.concatenate(token_types, axis=1),
                 rows=rows, indices=indices, attention_mask=attention_mask, position_ids=xp.concatenate(places, axis=1))


def _up_to(mask):
    """(T, T): a token and what is before it."""
    place = xp_of(mask).arange(mask.shape[1])
    return place[:, None] >= place


def _real(mask):
    """(B, T, T): both tokens are real."""
    return mask[:, :, None] & mask[:, None, :]
