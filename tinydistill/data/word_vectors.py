"""Word vectors in GloVe's text format, and which words are near which."""

import numpy as np

from tinydistill.data.tokenizer import special_ids
from tinydistill.errors import WrongUsage


class WordVectors:
    """Words and their vectors (V, D); a word that comes twice keeps its first vector."""

    def __init__(self, words, vectors):
        self.words, self.place, self.vectors = list(words), {}, vectors
        for i, word in enumerate(self.words):
            self.place.setdefault(word, i)
        length = np.sqrt((vectors * vectors).sum(1, keepdims=True))
        self.unit = np.divide(vectors, length, out=np.zeros_like(vectors), where=length > 0)            # (V, D)
        self.usable = (length > 0).ravel()
        self.usable[[i for i, word in enumerate(self.words) if self.place[word] != i]] = False

    def table(self, tokenizer, rows, width):
        """The vector of each of a tokenizer's pieces that is a whole word, (rows, width); NaN for every other piece.

        A word is whole where the tokenizer, behind a space, cuts it into one piece that is not special. Of words with
        the same piece, as `The` and `the` where capitals are dropped, the first has its vector there.
        Raises: WrongUsage where the vectors have another width.
        """
        if self.vectors.shape[1] != width:
            raise WrongUsage(f"need word vectors of {width} numbers, as the student's words have; "
                             f"these have {self.vectors.shape[1]}")
        found, special = np.full((rows, width), np.nan, np.float32), set(vars(special_ids(tokenizer)).values())
        cut = tokenizer.encode_batch([" " + word for word in self.words], add_special_tokens=False)
        for pieces, vector in zip(cut, self.vectors):
            if len(pieces) == 1 and pieces.ids[0] not in special and np.isnan(found[pieces.ids[0], 0]):
                found[pieces.ids[0]] = vector
        return found

    def neighbours(self, word, count):
        """The `count` other words whose vectors make the smallest angle with that of `word`, the nearest first.

        Equation: cos(u, v) = u.v / (|u| |v|). An unknown word has none, and a vector of zeros is nobody's neighbour.
        """
        i = self.place.get(word)
        if i is None or not self.usable[i]:
            return []
        usable = self.usable.copy()
        usable[i] = False
        cosine = np.where(usable, self.unit @ self.unit[i], -np.inf)                                    # (V,)
        nearest = np.argsort(-cosine, kind="stable")[:min(count, int(usable.sum()))]
        return [self.words[k] for k in nearest]


def read(path, most=100_000):
    """The first `most` words of a file in GloVe's text format: a word and its numbers in each line, parted by spaces.

    A word may have spaces in it: the numbers are as many as in the first line, counted from the end. The vector of
    `<unk>`, which stands for no word, is left out. 100,000 is what TinyBERT's published code reads.
    Raises: WrongUsage, with file and line.
    """
    words, vectors = [], []
    try:
        with open(path, "rb") as file:
            for number, line in enumerate(file, 1):
                if number > most:
                    break
                word, vector = _parsed(path, number, line, len(vectors[0]) if vectors else None)
                words.append(word)
                vectors.append(vector)
    except OSError as error:
        raise WrongUsage(f"cannot read {path}: {error.strerror}") from None
    if not words:
        raise WrongUsage(f"{path}, line 1: need a word and its vector, the file is empty")
    kept = [i for i, word in enumerate(words) if word != "<unk>"]
    return WordVectors([words[i] for i in kept], np.array(vectors)[kept])


def _parsed(path, number, line, size):
    """(word, its vector) of one line; `size` numbers, or as many as there are."""
    try:
        cells = line.decode("utf-8").rstrip("\r\n ").split(" ")
        size = len(cells) - 1 if size is None else size
        vector = np.array(cells[-size:] if size else [], np.float32)
        word = " ".join(cells[:-size] if size else cells)
    except ValueError:                              # no UTF-8, or no number
        vector = word = ""
    if len(vector) == 0 or not word or not np.isfinite(vector).all():
        raise WrongUsage(f"{path}, line {number}: need a word and {size or 'its'} numbers, parted by spaces; "
                         f"got {line[:60]!r}")
    return word, vector
