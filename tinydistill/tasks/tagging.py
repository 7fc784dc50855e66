"""The task `tagging`: a label for every word, as in named entities or parts of speech.

Its labels are those of the training file, so they are known when the data are: `Task.open`.
"""

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from tinydistill.data.lines import lines
from tinydistill.data.tokenizer import encode_words
from tinydistill.errors import WrongUsage
from tinydistill.features import IGNORED
from tinydistill.tasks.metrics import accuracy, span_f1
from tinydistill.tasks.task import Encoded, OfSequences, Task

COLUMNS = 10                                        # of CoNLL-U


@dataclass(frozen=True)
class Tagged:
    """Sentences, lists of words, and for each of them the number of every word's label among `classes`."""

    sentences: list
    tags: list
    classes: tuple

    def __len__(self):
        return len(self.sentences)

    def encode(self, tokenizer, max_length):
        """The label of a word stands at the first of its pieces, IGNORED at the others and at [CLS] and [SEP].

        Words beyond `max_length` are neither learned from nor scored: measure with one that none is beyond.
        """
        sequences, begins = encode_words(tokenizer, self.sentences, max_length)
        labels = [np.where(begin < 0, IGNORED, np.array(tags)[begin]) for begin, tags in zip(begins, self.tags)]
        return Encoded(sequences, labels)


def read(path):
    """[(words, tags)] of each sentence of a file: CoNLL-U where its name ends in .conllu, else CoNLL.

    CoNLL: word TAB tag, sentences parted by a line with nothing, or spaces and tabs, in it; a line that begins with #
    is a word. CoNLL-U: ten columns, of which FORM and UPOS are read; comments, the ranges of multiword tokens (3-4)
    and empty nodes (5.1) are not words.
    Raises: WrongUsage, with file and line.
    """
    universal, sentences, open_sentence = str(path).endswith(".conllu"), [], False
    for number, line in enumerate(lines(path, "a word and its tag"), 1):
        if not line.strip():
            open_sentence = False
            continue
        cells = line.split("\t")
        if universal and line.startswith("#"):
            continue
        if universal:
            if len(cells) != COLUMNS:
                raise WrongUsage(f"{path}, line {number}: need {COLUMNS} columns, got {len(cells)}")
            if not cells[0].isdecimal():
                continue
            cells = [cells[1], cells[3]]
        if len(cells) != 2 or not all(cell.strip() for cell in cells):
            raise WrongUsage(f"{path}, line {number}: need a word and its tag, got {line!r:.80}")
        if not open_sentence:
            sentences.append(([], []))
            open_sentence = True
        for column, cell in zip(sentences[-1], cells):
            column.append(cell)
    if not sentences:
        raise WrongUsage(f"{path}, line 1: need a word and its tag, the file has none")
    return sentences


def load(data_dir=None):
    """The sentences of each split there is in a folder, with the labels of train, sorted.

    Raises: WrongUsage, where a label of dev or test is none of train's, too.
    """
    if data_dir is None:
        raise WrongUsage("tagging needs a data folder with train.conll and dev.conll, or .conllu")
    found = {}
    for split in ("train", "dev", "test"):
        paths = [path for end in ("conllu", "conll") if (path := Path(data_dir, f"{split}.{end}")).exists()]
        if not paths and split != "test":
            raise WrongUsage(f"tagging needs {split}.conll or {split}.conllu; found neither in {data_dir}")
        if paths:
            found[split] = paths[0], read(paths[0])
    classes = sorted({tag for _, tags in found["train"][1] for tag in tags})
    number = {tag: i for i, tag in enumerate(classes)}
    splits = {}
    for split, (path, sentences) in found.items():
        unknown = sorted({tag for _, tags in sentences for tag in tags} - number.keys())
        if unknown:
            raise WrongUsage(f"{path}: need labels that train has ({', '.join(classes):.200}); got {unknown[0]!r:.40}")
        tags = [[number[tag] for tag in its_tags] for _, its_tags in sentences]
        splits[split] = Tagged([words for words, _ in sentences], tags, tuple(classes))
    return splits


def settle(task, splits):
    """The task for these data: with their labels, and F1 of spans as the headline where labels begin with B- or I-."""
    labels = splits["train"].classes
    of_spans = any(label.startswith(("B-", "I-")) for label in labels)
    metrics = {"span f1": OfSequences(partial(span_f1, labels))} if of_spans else {}
    return replace(task, labels=labels, metrics=metrics | task.metrics)


TASK = Task(name="tagging", what="which label has every word (named entities, parts of speech)?",
            source="your files in CoNLL or CoNLL-U", kind="token", labels=(), metrics={"accuracy": accuracy}, load=load,
            settle=settle)
