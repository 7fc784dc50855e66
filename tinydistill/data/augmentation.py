"""What augmentation needs of models: words of a text, words for a [MASK], tags of words. The two recipes are in
`tinybert.py` and `tang.py`."""

from dataclasses import replace

import numpy as np

from tinydistill.backend import to_host, xp_of
from tinydistill.data.batches import Batches
from tinydistill.data.tokenizer import encode_words, special_ids
from tinydistill.errors import WrongUsage
from tinydistill.features import Needs, Pass
from tinydistill.tensor import no_grad

BATCH = 32


def words(tokenizer, text):
    """The words of a text as the tokenizer parts it before it cuts pieces: BERT's at spaces and around punctuation.

    Raises: WrongUsage for RoBERTa's and XLM-R's, to whom the space is part of the word.
    """
    if any(kind in str(tokenizer.pre_tokenizer) for kind in ("ByteLevel", "Metaspace")):
        raise WrongUsage("need a model with a BERT tokenizer to augment texts; got one whose words hold their spaces")
    normalised = tokenizer.normalizer.normalize_str(text) if tokenizer.normalizer else text
    return [word for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str(normalised)]


def predictor(model, tokenizer):
    """`predict(queries) -> logits` of a model with a masked-lm head: queries, a list of (ids (T,), position).

    Shapes: logits (N, V), those of query n at its position. Token types are 0 up to the first [SEP] and 1 after it.
    """
    special = special_ids(tokenizer)

    def predict(queries):
        ids = [np.asarray(ids) for ids, _ in queries]
        position = np.array([position for _, position in queries])
        after = [np.cumsum(row == special.sep) - (row == special.sep) > 0 for row in ids]
        batches = Batches(ids, BATCH, 0, token_types=[row.astype(np.int32) for row in after], pad_id=special.pad)
        logits = np.empty((len(queries), model.config.vocabulary), np.float32)
        for rows, batch in batches.once():
            places = np.arange(len(rows)) * batch.ids.shape[1] + position[rows]                 # in (B * T,)
            logits[rows] = _logits(model, replace(batch, positions=places))
        return logits

    return predict


def tagger(model, tokenizer):
    """`tag(sentences) -> tags` of a model fine-tuned on the task `tagging`: lists of words in, lists of labels out.

    Words beyond the model's longest sequence have the tag "".
    """
    special = special_ids(tokenizer)

    def tag(sentences):
        ids, begins = encode_words(tokenizer, sentences, model.config.longest)
        tags = [[""] * len(words) for words in sentences]
        for rows, batch in Batches(ids, BATCH, 0, pad_id=special.pad).once():
            best = _logits(model, batch).argmax(-1).reshape(batch.ids.shape)                    # (B, T)
            for row, classes in zip(rows, best):
                for place in np.flatnonzero(begins[row] >= 0):
                    tags[row][begins[row][place]] = model.config.labels[classes[place]]
        return tags

    return tag


def _logits(model, batch):
    library = xp_of(model.parameters()[0].array)
    with no_grad():
        return to_host(model(batch.to(library), Pass(Needs.of(logits=True))).logits.array)
