"""Tasks in GLUE's own files: tab-separated columns with one or two texts and a label (Wang et al. 2019)."""

import os
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tinydistill.data.lines import lines
from tinydistill.errors import WrongUsage
from tinydistill.tasks.metrics import accuracy, f1, matthews
from tinydistill.tasks.task import Examples, Task


@dataclass(frozen=True)
class Layout:
    """What a task's files look like.

    texts, label: names of columns · classes: {a label as the files write it: the name of its class}, in the order of
    BERT's processors, which is the order of the logits · header: the columns where the files begin without a header ·
    files: the file of each split; `test` may be missing or come without labels · skips_short: rows with too few
    columns are left out, as published readers do.
    """

    texts: tuple
    classes: dict
    label: str = "label"
    header: tuple = ()
    files: dict = field(default_factory=lambda: {"train": "train.tsv", "dev": "dev.tsv", "test": "test.tsv"})
    skips_short: bool = False

    @property
    def first_line(self):
        """What the first line should be, in words."""
        names = ", ".join(repr(name) for name in self.texts)
        return f"{len(self.header)} columns" if self.header else f"a header with columns {names} and {self.label!r}"


SPACES = str.maketrans("\t\r\n", "   ")
ENTAILMENT = {"entailment": "entailment", "not_entailment": "not_entailment"}
LAYOUTS = {
    "sst-2": Layout(("sentence",), {"0": "negative", "1": "positive"}),
    "cola": Layout(("sentence",), {"0": "unacceptable", "1": "acceptable"},
                   header=("source", "label", "mark", "sentence"), files={"train": "train.tsv", "dev": "dev.tsv"}),
    "mrpc": Layout(("#1 String", "#2 String"), {"0": "different", "1": "paraphrase"}, label="Quality"),
    "qqp": Layout(("question1", "question2"), {"0": "different", "1": "duplicate"}, label="is_duplicate",
                  skips_short=True),
    "mnli": Layout(("sentence1", "sentence2"), {name: name for name in ("contradiction", "entailment", "neutral")},
                   label="gold_label", files={"train": "train.tsv", "dev": "dev_matched.tsv",
                                              "dev-mismatched": "dev_mismatched.tsv", "test": "test_matched.tsv"}),
    "qnli": Layout(("question", "sentence"), ENTAILMENT),
    "rte": Layout(("sentence1", "sentence2"), ENTAILMENT),
    "wnli": Layout(("sentence1", "sentence2"), {"0": "not_entailment", "1": "entailment"}),
}


# ---------------------------------------------------------------- files

def read(path, layout):
    """The Examples of one file; None where it has no column of labels.

    There is no quoting: a `"` is a character of the text. Columns are found by their names in the header. Spaces around
    a text are left out; of two texts one may be empty.
    Raises: WrongUsage, with file and line.
    """
    rows = lines(path, layout.first_line)
    header = layout.header or rows[0].split("\t")
    for name in layout.texts:
        if name not in header:
            raise WrongUsage(f"{path}, line 1: need a header with a column {name!r}, got {rows[0]!r:.80}")
    if layout.label not in header:
        return None
    texts, labels, numbers = [], [], {label: i for i, label in enumerate(layout.classes)}
    for number, line in enumerate(rows[not layout.header:], 1 + (not layout.header)):
        cells = line.split("\t")
        if len(cells) < len(header) and layout.skips_short:
            continue
        if len(cells) != len(header):
            raise WrongUsage(f"{path}, line {number}: need {len(header)} columns ({', '.join(header):.80}), "
                             f"got {len(cells)}")
        row = dict(zip(header, cells))
        text = tuple(row[name].strip() for name in layout.texts)
        if not any(text):
            raise WrongUsage(f"{path}, line {number}: the {' and the '.join(layout.texts)} is empty")
        if row[layout.label] not in numbers:
            raise WrongUsage(f"{path}, line {number}: need a label out of {', '.join(numbers)}; "
                             f"got {row[layout.label]!r:.40}")
        texts.append(text)
        labels.append(numbers[row[layout.label]])
    if not texts:
        raise WrongUsage(f"{path}, line 2: need at least one row below the header")
    first, *second = map(list, zip(*texts))
    return Examples(first, np.array(labels, np.int64), *second)


def write(path, layout, rows):
    """Write a file that `read` reads back, of (texts, number of the class) for each row; returns how many there were.

    Its columns are those that are read, or all (the others empty) where files have no header. A tab or an end of line
    in a text becomes a space. The file comes into place when it is whole.
    """
    columns, written, count = layout.header or (*layout.texts, layout.label), list(layout.classes), 0
    part = Path(f"{path}.part")
    try:
        with open(part, "w", encoding="utf-8", newline="\n") as file:
            if not layout.header:
                file.write("\t".join(columns) + "\n")
            for texts, label in rows:
                cells = dict(zip(layout.texts, (text.translate(SPACES) for text in texts)))
                cells[layout.label] = written[label]
                file.write("\t".join(cells.get(name, "") for name in columns) + "\n")
                count += 1
        os.replace(part, path)
    except OSError as error:
        raise WrongUsage(f"cannot write {path}: {error.strerror}") from None
    finally:
        part.unlink(missing_ok=True)
    return count


# ---------------------------------------------------------------- tasks

def _task(name, what, source, **metrics):
    layout = LAYOUTS[name]

    def load(data_dir=None):
        if data_dir is None:
            raise WrongUsage(f"{name} needs a data folder with {layout.files['train']} and {layout.files['dev']}")
        splits = {}
        for split, file in layout.files.items():
            path = Path(data_dir) / file
            if split == "test" and not path.exists():
                continue
            examples = read(path, layout)
            if examples is not None:
                splits[split] = examples
            elif split != "test":
                raise WrongUsage(f"{path}, line 1: need a header with a column {layout.label!r}, "
                                 f"which {file} must have")
        return splits

    return Task(name=name, what=what, source=f"{source}, in the files of GLUE (Wang et al. 2019)", kind="sequence",
                labels=tuple(layout.classes.values()), metrics=metrics, load=load, splits=tuple(layout.files))


# GLUE's own score of mrpc and qqp is the mean of accuracy and F1, that of mnli the mean over dev and dev-mismatched.
TASKS = (
    _task("sst-2", "is a sentence of a film review positive?", "Socher et al. 2013", accuracy=accuracy),
    _task("cola", "is a sentence grammatical?", "Warstadt et al. 2019", matthews=matthews, accuracy=accuracy),
    _task("mrpc", "do two sentences of the news say the same?", "Dolan and Brockett 2005", accuracy=accuracy, f1=f1),
    _task("qqp", "do two questions on Quora ask the same?", "Quora Question Pairs", accuracy=accuracy, f1=f1),
    _task("mnli", "does a sentence follow from another, contradict it, or neither?", "Williams et al. 2018",
          accuracy=accuracy),
    _task("qnli", "is the answer to a question in a sentence?", "Rajpurkar et al. 2016", accuracy=accuracy),
    _task("rte", "does a sentence follow from a text?", "PASCAL RTE challenges", accuracy=accuracy),
    _task("wnli", "does a sentence follow when a pronoun is replaced?", "Levesque et al. 2012", accuracy=accuracy),
)
