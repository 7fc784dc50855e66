"""XLM-R's kind of tokenizer, learned from texts: a text is cut into the pieces of the largest product of probabilities.

    P(word) = sum over its segmentations x_1 ... x_m of prod_j p(x_j)
    E: c_i = sum_words count(word) E[how often piece i is in a segmentation of it]
    M: p_i = max(c_i, 1/2) / sum_k max(c_k, 1/2)
    loss_i = c_i (log p_i - log P(the piece from other pieces)): about what the likelihood loses without piece i

Source: Kudo 2018, "Subword Regularization", section 3.2: candidates, then by turns EM and dropping a fifth of them,
those of the smallest loss, but never a single character. There, loss_i comes from all words anew. google/sentencepiece
compares with the best other segmentation where here is the sum of all. The trainer of `tokenizers` adds its sums in the
order of a hash map, so that no two runs of it give the same probabilities; hence this one.
"""

from collections import Counter

import numpy as np

from tinydistill.data.tokenizer_training import ROBERTA, count_words, framed, frequent_characters, require_room

LONGEST = 16                                        # characters of a piece, as in sentencepiece
CANDIDATES = 10                                     # for each piece that is to remain
KEPT = 0.8
ROUNDS = 2                                          # of EM before anything is dropped
UNKNOWN = 3                                         # the id of <unk>


def train_unigram(texts, vocabulary_size):
    """An XLM-R tokenizer whose pieces and their probabilities are learned from `texts`: the same in every process.

    Ids: <s> 0, <pad> 1, </s> 2, <unk> 3, pieces by falling probability, <mask> at the end. A word's first piece begins
    with the sign of the space before it. Of the characters, the most frequent stay: a tenth of the vocabulary's size,
    but 40 to 1,000; a rarer one becomes <unk>, and nothing is learned from a word with one.
    A small corpus may give fewer pieces than asked for: `tokenizer.get_vocab_size()` knows.
    Raises: WrongUsage where the texts hold no word, or the characters alone need more than `vocabulary_size`.
    """
    from tokenizers import models

    words = count_words(_tokenizer(models.Unigram()), texts)
    alphabet = frequent_characters(words, vocabulary_size)
    wanted = vocabulary_size - len(ROBERTA) - 1
    require_room(len(ROBERTA) + len(alphabet) + 1, vocabulary_size)
    words = {word: count for word, count in sorted(words.items()) if set(alphabet).issuperset(word)}
    pieces, log_p = learned(words, alphabet, wanted)
    scored = sorted(zip(pieces, np.round(log_p, 6).tolist()), key=lambda pair: (-pair[1], pair[0]))
    special = [(token, 0.0) for token in (*ROBERTA, "<mask>")]
    return framed(_tokenizer(models.Unigram(special[:-1] + scored + special[-1:], UNKNOWN, False)))


def _tokenizer(model):
    from tokenizers import Tokenizer, decoders, normalizers, pre_tokenizers

    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
    tokenizer.decoder = decoders.Metaspace()
    return tokenizer


def learned(words, alphabet, wanted):
    """(pieces, log p): at most `wanted` pieces, all of `alphabet` among them, from {word: count}."""
    pieces, counts = _candidates(words, alphabet, CANDIDATES * wanted)
    tables, own = _tables(words, pieces), _tables(pieces[len(alphabet):], pieces)
    there = [np.array([words[word] for word in table.words], float) for table in tables]
    kept = np.arange(len(pieces))
    log_p = _probabilities(counts, kept)
    while True:
        for _ in range(ROUNDS):
            counts = sum((table.expected(log_p, count) for table, count in zip(tables, there)), np.zeros(len(pieces)))
            log_p = _probabilities(counts, kept)
        if len(kept) <= wanted:
            return [pieces[i] for i in kept], log_p[kept]
        other = {piece: x for table in own for piece, x in zip(table.words, table.from_others(log_p))}
        loss = {i: round(counts[i] * (log_p[i] - other[pieces[i]]), 6) if i >= len(alphabet) else np.inf for i in kept}
        order = sorted(kept, key=lambda i: (-loss[i], pieces[i]))
        most = max(wanted, int(KEPT * len(kept)))
        kept, log_p[order[most:]] = np.array(sorted(order[:most])), -np.inf


def _probabilities(counts, kept):
    """M of the EM: log p of the pieces that are kept, minus infinity for the others."""
    log_p, counts = np.full(len(counts), -np.inf), np.maximum(counts[kept], 0.5)
    log_p[kept] = np.log(counts / counts.sum())
    return log_p


def _candidates(words, alphabet, most):
    """(pieces, how often each is there): the alphabet, and what is repeated, of the largest count times length."""
    found = Counter()
    for word, count in words.items():
        for begin in range(len(word)):
            for end in range(begin + 1, min(len(word), begin + LONGEST) + 1):
                found[word[begin:end]] += count
    longer = [piece for piece, count in found.items() if len(piece) > 1 and count > 1]
    longer.sort(key=lambda piece: (-found[piece] * len(piece), piece))
    pieces = alphabet + longer[:max(0, most - len(alphabet))]
    return pieces, np.array([found[piece] for piece in pieces])


def _tables(words, pieces):
    """The words in tables of equal length: their lattices are of one shape."""
    lists, number = {}, {piece: i for i, piece in enumerate(pieces)}
    for word in words:
        lists.setdefault(len(word), []).append(word)
    return [_Table(lists[length], number) for length in sorted(lists)]


class _Table:
    """Which piece ends where, in words of one length.

    Shapes: W words of n characters; piece[e, l] (W,) is the number of the piece of l + 1 characters that ends at e + 1,
    or that of all pieces where there is none.
    """

    def __init__(self, words, number):
        self.words, self.length, none = words, len(words[0]), len(number)
        self.piece = np.array([[[number.get(word[e - l:e + 1], none) if l <= e else none for word in words]
                                for l in range(min(LONGEST, self.length))] for e in range(self.length)])

    def scores(self, log_p):
        """log p of every place of the table, minus infinity where there is no piece. (n, L, W)"""
        return np.append(log_p, -np.inf)[self.piece]

    def forward(self, score):
        """a[e] = log of the probability of the first e characters, summed over segmentations. (n + 1, W)"""
        a = np.zeros((self.length + 1, len(self.words)))
        for e in range(self.length):
            longest = min(LONGEST, e + 1)
            a[e + 1] = np.logaddexp.reduce([a[e - l] + score[e, l] for l in range(longest)])
        return a

    def backward(self, score):
        """b[e] = that of the characters behind the first e. (n + 1, W)"""
        b = np.zeros((self.length + 1, len(self.words)))
        for e in reversed(range(self.length)):
            longest = min(LONGEST, self.length - e)
            b[e] = np.logaddexp.reduce([score[e + l, l] + b[e + l + 1] for l in range(longest)])
        return b

    def expected(self, log_p, counts):
        """c of every piece: E of the EM, from these words, which are there counts (W,) times."""
        score = self.scores(log_p)
        a, b, weight = self.forward(score), self.backward(score), np.zeros(score.shape)
        for e in range(self.length):
            for l in range(min(LONGEST, e + 1)):
                weight[e, l] = np.exp(a[e - l] + score[e, l] + b[e + 1] - a[-1]) * counts
        return np.bincount(self.piece.ravel(), weight.ravel(), len(log_p) + 1)[:-1]

    def from_others(self, log_p):
        """log P of words that are pieces themselves, from segmentations into at least two. (W,)"""
        score = self.scores(log_p)
        score[-1, -1] = -np.inf                                                         # the piece itself
        return self.forward(score)[-1]
