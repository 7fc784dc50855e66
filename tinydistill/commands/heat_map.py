"""An array as lines of text: its numbers, each beside a block as dark as it is large, with words for an axis of tokens.

Of several heads the first is shown, and as many rows and columns as there is room for; what was left out is said.
"""

from dataclasses import dataclass

import numpy as np

BLOCKS = " ░▒▓█"
PADDING = "·"
PALE_TO_STRONG = {1: (224, 217, 209, 167), -1: (195, 153, 111, 68)}     # of the 256 colours: red above 0, blue below
ROWS = 12
GAP = "   "


@dataclass(frozen=True)
class Words:
    """What an axis of tokens stands for: tokens and mask (B, T), the vocabulary, the places that a token head reads."""

    tokens: list
    mask: list
    vocabulary: list
    read: list

    def sentence(self, b):
        """[(word, whether it is padding)] of one sentence."""
        return [(word, not real) for word, real in zip(self.tokens[b], self.mask[b])]

    @property
    def all(self):
        """Those of the flattened (B*T,)."""
        return [pair for b in range(len(self.tokens)) for pair in self.sentence(b)]


def number(x):
    """A number that stands alone."""
    return f"{x:.4g}" if np.asarray(x).dtype.kind == "f" else str(int(x))


def lines(array, words, width, colour=False):
    """(lines of at most `width` columns, what was left out) for an array of at least one axis."""
    texts, strength = _texts(array), _strength(array)
    parts, beside, drawn, notes = _parts(array, words), [], [], {}
    for place, rows, columns in parts:
        cells = [x[place].reshape(len(rows), len(columns)) for x in (texts, strength)]
        block, wide, cut = _block(*cells, rows, columns, width, colour)
        notes |= dict.fromkeys(cut)
        if beside and sum(w + len(GAP) for _, w in beside) + wide > width:          # no more room beside the others
            drawn, beside = drawn + _joined(beside), []
        beside.append((block, wide))
    heads = [n for n in array.shape[int(_by_sentence(array, words)):-2] if n > 1]
    return drawn + _joined(beside), [f"first of {n} shown" for n in heads] + list(notes)


def _by_sentence(array, words):
    return array.ndim > 1 and len(array) == len(words.tokens) and len(words.tokens[0]) in array.shape[1:]


def _parts(array, words):
    """(index, rows, columns) of each part that is shown; the last two are lists of (name, whether it is padding)."""
    if _by_sentence(array, words):
        for b in range(len(array)):
            place = (b,) + (0,) * (array.ndim - 3)
            sentence = words.sentence(b)
            yield place, *(sentence if n == len(sentence) else _numbered(n) for n in _two(array[place].shape))
        return
    place = (0,) * (array.ndim - 2)
    rows, columns = _two(array[place].shape)
    every, vocabulary = words.all, [(word, False) for word in words.vocabulary]
    read = [every[i] for i in words.read]
    tokens = {len(every): every, len(read): read}                       # (B*T,) or (N,)
    if array.ndim == 1:
        yield place, _numbered(1), tokens.get(columns, _numbered(columns))
        return
    of_tokens = rows == len(every) or (rows == len(read) and columns in (1, len(vocabulary)))
    yield (place, tokens[rows] if of_tokens else _numbered(rows),
           vocabulary if columns == len(vocabulary) else _numbered(columns))


def _two(shape):
    """(rows, columns) of what is left of a shape; numbers without rows are one row."""
    return shape if len(shape) == 2 else (1, *shape)


def _numbered(n):
    return [("" if n == 1 else str(i), False) for i in range(n)]


def _texts(array):
    """Every number with the decimals that give the largest three digits, or with fewer where that says it all."""
    if array.dtype.kind != "f":
        shown = [str(int(x)) for x in array.ravel()]
    else:
        largest = _largest(array)
        decimals = max(0, 2 - int(np.floor(np.log10(largest)))) if largest else 0
        exact = [d for d in range(decimals) if np.array_equal(array.round(d), array, equal_nan=True)]
        form = ".2e" if largest and not 1e-3 <= largest < 1e5 else f".{min(exact, default=decimals)}f"
        shown = ["0" if x == 0 else f"{x:{form}}" for x in array.ravel()]
    return np.array(shown).reshape(array.shape)


def _strength(array):
    """-4 to 4: the sign, and how large beside the largest; 0 for 0 alone."""
    finite, largest = np.where(np.isfinite(array), array, 0).astype(float), _largest(array)
    return (np.sign(finite) * np.ceil(4 * np.abs(finite) / (largest or 1))).astype(int)


def _largest(array):
    return float(np.abs(array[np.isfinite(array)].astype(float)).max(initial=0))


def _block(texts, strength, rows, columns, width, colour):
    """(lines, their width, what was cut off) of one part."""
    cell = max(map(len, [*texts.ravel(), *(name for name, _ in columns)])) + 2
    label = max(len(name) for name, _ in rows)
    room = (width - label) // cell
    counts = (ROWS, len(rows), "rows"), (room, len(columns), "columns")
    cut = [f"first {shown} of {n} {what} shown" for shown, n, what in counts if shown < n]
    drawn = []
    if any(name for name, _ in columns):
        drawn.append(" " * label + "".join(name.rjust(cell - 1) + " " for name, _ in columns[:room]))
    for i, (name, padded_row) in enumerate(rows[:ROWS]):
        drawn.append(name.rjust(label) + "".join(
            _cell(texts[i, j].rjust(cell - 1), strength[i, j], padded_row or padded_column, colour)
            for j, (_, padded_column) in enumerate(columns[:room])))
    return drawn, label + cell * min(room, len(columns)), cut


def _cell(text, strength, padded, colour):
    """A number and its block; a dot in the place of the block, and no colour, where it belongs to padding."""
    if padded or not colour or strength == 0:
        return text + (PADDING if padded else " " if colour else BLOCKS[abs(strength)])
    shade = PALE_TO_STRONG[1 if strength > 0 else -1][abs(strength) - 1]
    return f"\033[48;5;{shade};38;5;16m{text} \033[0m"


def _joined(blocks):
    """Blocks side by side; they are equally high."""
    return [GAP.join(parts) for parts in zip(*(block for block, _ in blocks))]
