"""Tasks in GLUE's single-sentence layout: tab-separated files with a header that names a `sentence` and a `label`."""

from pathlib import Path

import numpy as np

from tinydistill.errors import WrongUsage
from tinydistill.tasks.metrics import accuracy
from tinydistill.tasks.task import Examples, Task


def read_tsv(path, classes):
    """The Examples of one file, labels 0 to `classes` - 1; None where the file has no `label` column.

    UTF-8, with or without a byte-order mark; lines end in LF or CRLF; there is no quoting: a `"` is a character of
    the sentence. Columns are found by their names in the header.
    Raises: WrongUsage, with file and line.
    """
    lines = _lines(path)
    header = lines[0].split("\t")
    if "sentence" not in header:
        raise WrongUsage(f"{path}, line 1: need a header with a column 'sentence', got {lines[0]!r:.80}")
    if "label" not in header:
        return None
    texts, labels = [], []
    for number, line in enumerate(lines[1:], 2):
        cells = line.split("\t")
        if len(cells) != len(header):
            raise WrongUsage(f"{path}, line {number}: need {len(header)} columns ({', '.join(header):.80}), "
                             f"got {len(cells)}")
        row = dict(zip(header, cells))
        if not row["sentence"].strip():
            raise WrongUsage(f"{path}, line {number}: the sentence is empty")
        if row["label"] not in map(str, range(classes)):
            raise WrongUsage(f"{path}, line {number}: need a label from 0 to {classes - 1}, got {row['label']!r:.40}")
        texts.append(row["sentence"].strip())
        labels.append(int(row["label"]))
    if not texts:
        raise WrongUsage(f"{path}, line 2: need at least one row below the header")
    return Examples(texts, np.array(labels, np.int64))


def _lines(path):
    """The lines of a UTF-8 file without their ends."""
    try:
        text = Path(path).read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise WrongUsage(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise WrongUsage(f"{path}, line {line}: need UTF-8, got byte 0x{error.object[error.start]:02x}") from None
    text = text.rstrip("\r\n")
    if not text:
        raise WrongUsage(f"{path}, line 1: need a header with columns 'sentence' and 'label', the file is empty")
    return [line.removesuffix("\r") for line in text.split("\n")]         # splitlines would cut at U+2028 and others


def single_sentence(name, what, source, labels, metrics):
    """A task whose folder holds train.tsv, dev.tsv and, where it has labels, test.tsv (GLUE's own has none)."""

    def load(data_dir=None):
        if data_dir is None:
            raise WrongUsage(f"{name} needs a data folder with train.tsv and dev.tsv")
        splits = {}
        for split in ("train", "dev", "test"):
            path = Path(data_dir) / f"{split}.tsv"
            if split == "test" and not path.exists():
                continue
            examples = read_tsv(path, len(labels))
            if examples is not None:
                splits[split] = examples
            elif split != "test":
                raise WrongUsage(f"{path}, line 1: need a header with a column 'label', which {split}.tsv must have")
        return splits

    return Task(name=name, what=what, source=source, kind="sequence", labels=labels, metrics=metrics, load=load)


SST_2 = single_sentence(
    "sst-2", what="is a sentence of a film review positive?", labels=("negative", "positive"),
    source="Socher et al. 2013, in the files of GLUE (Wang et al. 2019)", metrics={"accuracy": accuracy})
