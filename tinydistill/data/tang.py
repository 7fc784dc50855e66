"""The data augmentation of Tang et al. 2019: words are masked, or exchanged for others of their part of speech.

It needs no language model, only a tagger: any `tag(list of sentences) -> list of lists of tags`, a sentence being a
list of words. `augmentation.tagger` makes one of a model fine-tuned on the task `tagging`.
"""

from tinydistill.backend import generator, stream

SITE = stream("augmentation of tang")
TRIALS = {1: 20, 2: 10}                             # by the number of texts in a row
BOTH = 1 / 3                                        # the chance that both texts of a pair are altered
MASK = "[MASK]"


def augment(rows, tag, trials=None, mask=0.1, exchange=0.1, n_gram=0.0, lengths=(1, 2, 3, 4, 5), seed=0):
    """New rows for `rows`, tuples of one or two texts that are lists of words: (number of the old row, new texts).

    In each of the `trials` of a row, every word is masked ("[MASK]") with chance `mask`, else with chance `exchange`
    (of all words, not of the rest) exchanged for a random word that has its tag anywhere in `rows`, as often as it has
    it, and maybe the same; then, with chance `n_gram`, the text is cut to a run of words of a random length out of
    `lengths`, all such runs alike; a text that is no longer stays whole. Of a pair both texts are altered with
    chance 1/3, else one of them by the toss of a coin. What is not new is dropped, and so is a row with an empty text
    and a single text of which no word was kept.
    The rows of one are the same for the same (seed, its number, `rows`).
    Source: Tang et al. 2019; castorini/d-bert augment_data.py (single texts, 20 trials) and augment_paired_data.py
    (pairs, 10). There the last run of a text is never drawn, and with a single text that is too short for one the
    remaining trials of it are given up; n-grams are off unless asked for. (0.25 in the paper: unverified.)
    """
    sentences = [words for row in rows for words in row]
    tags = iter(tag(sentences))
    tagged = [[list(zip(words, next(tags))) for words in row] for row in rows]
    by_tag = {}
    for word, its_tag in (pair for row in tagged for text in row for pair in text):
        by_tag.setdefault(its_tag, []).append(word)
    seen = {tuple(" ".join(words) for words in row) for row in rows}
    for number, row in enumerate(tagged):
        random = generator(seed, SITE, number)
        for _ in range(trials or TRIALS[len(row)]):
            which, new, kept = _altered(len(row), random), [], len(row) == 2
            for place, text in enumerate(row):
                words = [word for word, _ in text]
                if place in which:
                    words, some_left = _altered_text(text, by_tag, mask, exchange, random)
                    kept = kept or some_left
                    if random.random() < n_gram:
                        words = _run(words, lengths, random)
                new.append(" ".join(words))
            if kept and all(new) and tuple(new) not in seen:
                seen.add(tuple(new))
                yield number, tuple(new)


def _altered(count, random):
    """Which of `count` texts are altered."""
    if count == 1:
        return {0}
    return {0, 1} if random.random() < BOTH else {int(random.integers(2))}


def _altered_text(text, by_tag, mask, exchange, random):
    """(words, whether one of them was left alone) of a tagged text."""
    words, some_left = [], False
    for word, tag in text:
        roll = random.random()
        if roll < mask:
            word = MASK
        elif roll < mask + exchange:
            word = by_tag[tag][int(random.integers(len(by_tag[tag])))]
        else:
            some_left = True
        words.append(word)
    return words, some_left


def _run(words, lengths, random):
    """A run of as many words as one of `lengths`, or all where that are no more."""
    length = lengths[int(random.integers(len(lengths)))]
    first = int(random.integers(max(1, len(words) - length + 1)))
    return words[first:first + length]
