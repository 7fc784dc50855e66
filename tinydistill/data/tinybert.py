"""TinyBERT's data augmentation (Jiao et al. 2020): words are exchanged for what a masked language model says there.

A word that is one piece is exchanged for one of those that the model finds likeliest in its place, a word of several
pieces for one of its neighbours among word vectors. The paper's Algorithm 1 and the published code differ in much
more than numbers, so they are two functions.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from tinydistill.backend import generator, stream
from tinydistill.data.augmentation import words
from tinydistill.data.tokenizer import special_ids

SITE = stream("augmentation of tinybert")
SAMPLES = 20                                        # N_a of the paper
TRIALS = {"cola": 30, "mnli": 10, "mrpc": 30, "sst-2": 20, "sts-b": 30, "qqp": 10, "qnli": 20, "rte": 30}
OTHER_TRIALS = 30                                   # of the published code for tasks that it does not name
ASCII = set("abcdefghijklmnopqrstuvwxyz")

# Words that say little by themselves, and the letters that apostrophes leave. The published code has a list of its own
# (about 180 words); who needs exactly its choice of words hands it to `official`.
STOP_WORDS = frozenset("""
    a an the this that these those each every either neither both all any some no none other another such own same
    i you he she it we they me him her us them my your his its our their mine yours hers ours theirs
    myself yourself himself herself itself ourselves yourselves themselves who whom whose which what
    am is are was were be been being have has had having do does did doing done can could will would shall should may
    might must ought need dare
    and or but nor so yet if because as until while although though unless whether than since when where why how
    of at by for with about against between among into through during before after above below to from up down in out
    on off over under upon within without along across toward towards behind beyond near
    again further then once here there now ever never only just too very more most less least few many much not also
    s t d m o y ll re ve ain aren couldn didn doesn don hadn hasn haven isn mightn mustn needn shan shouldn wasn weren
    won wouldn
""".split())


@dataclass(frozen=True)
class Proposals:
    """Who proposes words for a place, and how many.

    predict: `predict(list of (ids, position)) -> logits (N, V)`, as `augmentation.predictor` makes it of a model ·
    vectors: `WordVectors`, or None: then words of several pieces stay · count: K · longest: tokens of a sequence.
    """

    tokenizer: object
    predict: object
    vectors: object = None
    count: int = 15
    longest: int = 512

    @cached_property
    def special(self):
        return special_ids(self.tokenizer)

    @cached_property
    def pieces(self):
        """The piece of each id."""
        return [self.tokenizer.id_to_token(i) for i in range(self.tokenizer.get_vocab_size())]

    @cached_property
    def is_word(self):
        """(V,): whether a piece is a word: it goes on with no other, and is no special token."""
        special = set(vars(self.special).values())
        return np.array([not piece.startswith("##") and i not in special for i, piece in enumerate(self.pieces)])

    def cut(self, some_words):
        """The ids of each word."""
        return [found.ids for found in self.tokenizer.encode_batch(some_words, add_special_tokens=False)]

    def likeliest(self, queries, words_only):
        """The pieces with the largest logits of each query, the likeliest first."""
        if not queries:
            return []
        logits = np.asarray(self.predict(queries))
        if words_only:
            logits = np.where(self.is_word, logits, -np.inf)
        best = np.argsort(-logits, axis=1, kind="stable")[:, :self.count]                       # (N, K)
        return [[self.pieces[i] for i in row if logits[n, i] > -np.inf] for n, row in enumerate(best)]

    def near(self, word):
        """The nearest words by their vectors."""
        return [] if self.vectors is None else self.vectors.neighbours(word, self.count)


# ---------------------------------------------------------------- as printed

def paper(texts, proposals, samples=SAMPLES, chance=0.4, seed=0):
    """Algorithm 1, read literally: `samples` new rows of a row of one text or two.

    For each word of x in turn: a word of one piece becomes [MASK] in x_m, and the K words that BERT finds likeliest
    there, given x_m as it is by now, are the candidates C; for another word they are its K nearest. With p <= `chance`,
    p uniform, the word becomes one of C; else it stays as it is in x_m: [MASK], where it has become that.
    The algorithm is for one sequence of words; of a pair, both texts are taken as one, [CLS] A [SEP] B [SEP].
    A word without candidates, or beyond `longest` tokens, stays.
    Source: Jiao et al. 2020, "TinyBERT", Algorithm 1: p_t = 0.4, N_a = 20, K = 15. `official` is what was run.
    """
    parts = [words(proposals.tokenizer, text) for text in texts]
    x, part = [word for some in parts for word in some], [n for n, some in enumerate(parts) for _ in some]
    cut, special = proposals.cut(x), proposals.special
    sampled, ids = [list(x) for _ in range(samples)], [list(cut) for _ in range(samples)]
    randoms = [generator(seed, SITE, stream("\t".join(texts)), n) for n in range(samples)]
    mask = proposals.pieces[special.mask]
    for i, word in enumerate(x):
        choices = [proposals.near(word) if len(cut[i]) > 1 else []] * samples
        if len(cut[i]) == 1:
            queries = [_sequence(row[:i] + [[special.mask]] + row[i + 1:], part, i, special) for row in ids]
            asked = [n for n, (_, position) in enumerate(queries) if position < proposals.longest]
            found = proposals.likeliest([(queries[n][0][:proposals.longest], queries[n][1]) for n in asked], True)
            for n, candidates in zip(asked, found):
                choices[n], sampled[n][i], ids[n][i] = candidates, mask, [special.mask]
        for n, random in enumerate(randoms):
            if random.random() <= chance and choices[n]:
                sampled[n][i] = choices[n][int(random.integers(len(choices[n])))]
                ids[n][i], = proposals.cut([sampled[n][i]])
    return [tuple(" ".join(word for word, p in zip(row, part) if p == n) for n in range(len(texts))) for row in sampled]


def _sequence(cut, part, i, special):
    """(ids of [CLS] A [SEP] or [CLS] A [SEP] B [SEP], where word i begins in it)."""
    ids, position = [special.cls], None
    for n, pieces in enumerate(cut):
        if n and part[n] != part[n - 1]:
            ids.append(special.sep)
        if n == i:
            position = len(ids)
        ids += pieces
    return np.array(ids + [special.sep]), position


# ---------------------------------------------------------------- as published code does it

def official(texts, proposals, trials=OTHER_TRIALS, chance=0.4, stop_words=STOP_WORDS, seed=0):
    """What the published code writes for a row of one text or two: the row itself and its variations.

    Only words of the letters a to z that are no stop words are exchanged. The candidates of a word are found once: of
    one piece, the K likeliest at its place in [CLS] text with [MASK] [SEP] text [SEP], where the answer can be seen,
    without those that begin with ##; of several pieces, the K nearest, with a capital where the word has one; if there
    are none, the word itself. Then, in each of the `trials`, each of these words is exchanged with `chance` for one of
    its candidates. A text that came before is left out. A variation is words parted by spaces, so that one in which
    nothing was exchanged may still differ from the text.
    Of a pair, first A is varied beside B, then B beside the last variation of A, and that begins with B as it is: the
    last row of the first half comes twice.
    Source: huawei-noah/Pretrained-Language-Model TinyBERT/data_augmentation.py. N is in `TRIALS` by task; the key of
    STS-B is misspelt there, and the default that it falls through to is the same 30.
    """
    row, rows = list(texts), []
    for column, text in enumerate(texts):
        for variation in _variations(text, proposals, trials, chance, stop_words,
                                     generator(seed, SITE, stream(text), column)):
            row[column] = variation
            rows.append(tuple(row))
    return rows


def _variations(text, proposals, trials, chance, stop_words, random):
    """The text and at most `trials` others."""
    x = words(proposals.tokenizer, text)
    choices = _choices(x, proposals, stop_words)
    found = [text]
    for _ in range(trials):
        variation = list(x)
        for i, candidates in choices.items():
            candidate = candidates[int(random.integers(len(candidates)))]
            if random.random() < chance:
                variation[i] = candidate
        if (joined := " ".join(variation)) not in found:
            found.append(joined)
    return found


def _choices(x, proposals, stop_words):
    """{number of a word that may be exchanged: its candidates}."""
    cut, special = proposals.cut(x), proposals.special
    begins = 1 + np.cumsum([0] + [len(pieces) for pieces in cut])
    whole = [i for pieces in cut for i in pieces]
    may = [i for i, word in enumerate(x) if ASCII.issuperset(word.lower()) and word.lower() not in stop_words]
    choices = {i: [] for i in may}
    asked = [i for i in may if len(cut[i]) == 1 and begins[i] < proposals.longest]
    queries = []
    for i in asked:
        ids = np.array([special.cls, *whole, special.sep, *whole, special.sep])
        ids[begins[i]] = special.mask
        queries.append((ids[:proposals.longest], int(begins[i])))
    for i, candidates in zip(asked, proposals.likeliest(queries, False)):
        choices[i] = [piece for piece in candidates if not piece.startswith("##")]
    for i in may:
        if len(cut[i]) > 1:
            near = proposals.near(x[i])
            choices[i] = [word.title() for word in near] if x[i].istitle() else near
    return {i: candidates or [x[i]] for i, candidates in choices.items()}
