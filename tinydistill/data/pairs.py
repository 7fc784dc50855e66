"""BERT's sentence pairs: documents cut in segments A and B, where B goes on or comes from somewhere else."""

from typing import NamedTuple

import numpy as np

from tinydistill.backend import generator, stream
from tinydistill.errors import WrongUsage

SITE = stream("pairs")
RANDOM_NEXT = 0.5


class Pairs(NamedTuple):
    """A and B in one sequence: ids and token types, lists of (T,) int32, and whether B follows A, (N,) bool."""

    sequences: list
    token_types: list
    is_next: np.ndarray


def documents(lines):
    """Lines of text as documents, lists of lines: a blank line parts two.

    >>> documents(["a", "b", "", " ", "c"])
    [['a', 'b'], ['c']]
    """
    found = [[]]
    for line in lines:
        if line.strip():
            found[-1].append(line.strip())
        elif found[-1]:
            found.append([])
    return [document for document in found if document]


def pack(documents, special, max_length=128, short=0.1, seed=0, epoch=0, join=None):
    """Every document as pairs: A a run of its sentences; B the next ones (is_next), or some of another document.

    Sentences are collected until there are `max_length` tokens less the special ones, or, in a share `short` of the
    documents, a number from 2 to that. They are cut in A and B at random. With chance 1/2, and always where there is
    only one, B is replaced: by sentences of another document (a longer one is likelier), from a random one on, as many
    as fill up; the sentences that were B come again in the next pair. Tokens over the limit are lost one by one from
    the longer of the two (B of equals), each at its front or its end by the toss of a coin.
    Shapes: documents, lists of sentences, which are lists of ids; empty ones are left out. special a `SpecialIds`, for
    BERT's `[CLS] A [SEP] B [SEP]`; join(A, B) -> (ids, token types) another format (`tokenizer.pair_format`).
    The pairs of a document depend on (seed, epoch, its number) and on the documents alone.
    Raises: WrongUsage where there are fewer than two documents, or `max_length` has no room for two tokens.
    Source: Devlin et al. 2019, "BERT", appendix A.2; huawei-noah/Pretrained-Language-Model
    TinyBERT/pregenerate_training_data.py. google-research/bert create_pretraining_data.py draws the other document
    uniformly, and where it draws this one ten times in a row, takes it.
    """
    documents = [[sentence for sentence in document if len(sentence)] for document in documents]
    documents = [document for document in documents if document]
    join = join or (lambda a, b: _as_bert(a, b, special))
    around = len(join([], [])[0])                                                       # special tokens of a row
    room = max_length - around
    if len(documents) < 2:
        raise WrongUsage(f"need at least two documents, for sentences that do not follow; got {len(documents)}")
    if room < 2:
        raise WrongUsage(f"need a maximum length with room for {around} special tokens and two sentences; "
                         f"got {max_length}")
    ends = np.cumsum([len(document) for document in documents])
    pairs = [pair for number in range(len(documents))
             for pair in _pairs(documents, number, ends, room, short, generator(seed, SITE, epoch, number))]
    rows = [join(a, b) for a, b, _ in pairs]
    return Pairs([ids for ids, _ in rows], [types for _, types in rows], np.array([follows for _, _, follows in pairs]))


def _as_bert(a, b, special):
    """(ids, token types) of `[CLS] A [SEP] B [SEP]`."""
    ids = np.array([special.cls, *a, special.sep, *b, special.sep], np.int32)
    return ids, np.repeat(np.array([0, 1], np.int32), (len(a) + 2, len(b) + 1))


def _pairs(documents, number, ends, room, short, random):
    """(A, B, whether B follows) of one document."""
    document, target = documents[number], room
    if random.random() < short:
        target = int(random.integers(2, room + 1))
    begin = 0
    while begin < len(document):
        end, length = begin, 0
        while end < len(document) and length < target:
            length += len(document[end])
            end += 1
        middle = begin + 1 if end == begin + 1 else int(random.integers(begin + 1, end))
        a, follows = _joined(document[begin:middle]), middle < end and random.random() >= RANDOM_NEXT
        if follows:
            b = _joined(document[middle:end])
        else:
            other = documents[_other(number, ends, random)]
            b, place = [], int(random.integers(len(other)))
            while not b or (place < len(other) and len(b) < target - len(a)):
                b, place = b + list(other[place]), place + 1
        yield *_truncated(a, b, room, random), follows
        begin = end if follows else middle


def _joined(sentences):
    return [token for sentence in sentences for token in sentence]


def _other(number, ends, random):
    """A document that is not `number`, with chances as their numbers of sentences. ends: the running total of those."""
    own = ends[number] - (ends[number - 1] if number else 0)
    sentence = (ends[number] + random.integers(ends[-1] - own)) % ends[-1]
    return int(np.searchsorted(ends, sentence, side="right"))


def _truncated(a, b, room, random):
    """A and B with at most `room` tokens together."""
    while len(a) + len(b) > room:
        longer = a if len(a) > len(b) else b
        longer.pop(0 if random.random() < 0.5 else -1)
    return a, b
