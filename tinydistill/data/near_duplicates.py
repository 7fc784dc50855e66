"""Cutting a set of texts in parts so that near-duplicates fall in one: what is tested on was not trained on."""

import re
from hashlib import blake2b

import numpy as np

PHRASE = 6                                          # with 5, boilerplate joins a tenth of `stdlib` into one family
PLAIN_WORD = re.compile(r"""["'(`*\[{<]*([A-Z]?[a-z]+)[.,;:!?"')`*\]}>]*""")


def canonical(text):
    """The plain words of a text in lower case: identifiers, calls, numbers and punctuation are left out.

    Two docstrings often differ in nothing else. A text with fewer than three plain words is code: all its words count.
    """
    words = [match[1].lower() for word in text.split() if (match := PLAIN_WORD.fullmatch(word))]
    return words if len(words) >= 3 else text.lower().split()


def families(texts):
    """For each text its family's name: texts that are near-duplicates of each other have the same.

    Near-duplicates: texts whose canonical words share a run of six, or, from four words up, differ by one word put in,
    left out or exchanged. Who has a near-duplicate in common is of one family, whose name is the alphabetically first
    canonical form in it.
    """
    forms = [canonical(text) for text in texts]
    parent, first = list(range(len(forms))), {}

    def root(i):
        while parent[i] != i:
            parent[i] = i = parent[parent[i]]
        return i

    for i, words in enumerate(forms):
        phrases = [words[k:k + PHRASE] for k in range(max(1, len(words) - PHRASE + 1))]
        if 4 <= len(words) < 2 * PHRASE:            # in a longer text one word more or less spares a run of six
            phrases += [words] + [words[:k] + words[k + 1:] for k in range(len(words))]
        for phrase in phrases:
            parent[root(i)] = root(first.setdefault(tuple(phrase), i))
    names = {}
    for i, words in enumerate(forms):
        names[root(i)] = min(names.get(root(i), words), words)
    return [" ".join(names[root(i)]) for i in range(len(forms))]


def places(texts):
    """Where each text falls when a set is cut in parts: a number in [0, 1), the same for all of one family.

    `place < 0.2` is a fifth of the families. The number is a hash of the family's name: the same on every machine and
    whatever the order of the texts.
    """
    return np.array([int.from_bytes(blake2b(name.encode(), digest_size=6).digest(), "big") / 2**48
                     for name in families(texts)])
