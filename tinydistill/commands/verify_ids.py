"""The ids that two models are compared on: a text's, or where they have no tokenizer in common, drawn ones."""

import numpy as np

from tinydistill.backend import generator, stream
from tinydistill.data import tokenizer as tokenizers
from tinydistill.errors import WrongUsage
from tinydistill.features import Batch

PAIRS = (("The bridge was closed in 1987, because nobody would pay for it; two years later it was open again.",
          "Who paid for the bridge?"),
         ("It rained.", "We stayed at home."))
LENGTHS = (13, 8)                                   # of drawn sequences
LONGEST = 64                                        # tokens


def shown_ids(directories, configs, text=None, seed=0):
    """(Batch, in words where it comes from), the second sequence shorter than the first."""
    longest = min(LONGEST, *(config.longest for config in configs))
    typed = all(getattr(config, "token_types", 0) > 1 or getattr(config, "pair", False) for config in configs)
    tokenizer, words = _common(directories)
    if tokenizer is None:
        if text is not None:
            raise WrongUsage(f"need a tokenizer that both models have, for --text: {words}")
        return _drawn(configs, longest, typed, seed), f"drawn ids, as {words}"
    if text is None:
        firsts, seconds = zip(*PAIRS)
        rows, types = tokenizers.encode(tokenizer, firsts, longest, seconds)
        words = f"two built-in pairs of sentences, {words}"
    else:
        rows, words = tokenizers.encode(tokenizer, [text] if isinstance(text, str) else text, longest), words
        types = [np.zeros_like(row) for row in rows]
        words = f"--text, {words}"
    if max(int(row.max()) for row in rows) >= configs[0].vocabulary:
        return _drawn(configs, longest, typed, seed), "drawn ids, as the tokenizer has more pieces than the models"
    return _batch(rows, types if typed else None, configs[0].pad_id), words


def _common(directories):
    """(the tokenizer of both models, or of the one that has any, or None; in words)."""
    found = {}
    for directory in dict.fromkeys(directories):
        try:
            found[directory] = tokenizers.load(directory)
        except WrongUsage:                          # it has none
            continue
    if not found:
        return None, "neither model has a tokenizer"
    first, *others = found.values()
    if any(other.get_vocab() != first.get_vocab() for other in others):
        return None, "their tokenizers have other vocabularies"
    return first, f"through the tokenizer of {next(iter(found))}"


def _drawn(configs, longest, typed, seed):
    config, rng = configs[0], generator(seed, stream("ids"))
    lengths = [min(n, longest) for n in LENGTHS]
    known = np.setdiff1d(np.arange(config.vocabulary), [config.pad_id])
    types = [(np.arange(n) >= (n + 1) // 2).astype(np.int32) for n in lengths]
    return _batch([rng.choice(known, n) for n in lengths], types if typed else None, config.pad_id)


def _batch(rows, types, pad_id):
    """The rows, padded to the longest."""
    lengths = [len(row) for row in rows]
    mask = np.arange(max(lengths)) < np.array(lengths)[:, None]
    ids, token_types = np.full(mask.shape, pad_id, np.int32), np.zeros(mask.shape, np.int32)
    ids[mask] = np.concatenate(rows)
    if types is not None:
        token_types[mask] = np.concatenate(types)
    return Batch(ids, mask, token_types if types is not None else None, rows=np.arange(len(rows)))
