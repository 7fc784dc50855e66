"""Where text comes from: a corpus by name, file or folder, as a list of rows."""

import hashlib
import re
from pathlib import Path

from tinydistill.data import pairs, stdlib, stdlib_parts
from tinydistill.errors import Problem, WrongUsage

CORPORA = (                                         # what `tinydistill corpora` prints
    {"name": "stdlib", "what": "the English of Python's documentation, without the rows that stdlib tasks test on",
     "source": "pydoc_data.topics and the docstrings of the standard library"},
    {"name": "FILE", "what": "a UTF-8 text file, one row a line", "source": "your file"},
    {"name": "FOLDER", "what": "all *.txt in it and below, by name", "source": "your folder"},
    {"name": "hf:NAME[:CONFIG][@SPLIT]", "what": "a data set with a text column; SPLIT is train unless given",
     "source": "https://huggingface.co/datasets, or a local folder in its layout"},
)
STRINGS = ("string", "large_string")                # the types of a data set's text columns


def load(name_or_path):
    """The rows of a corpus, without blank ones: see `CORPORA`.

    In text files every line is a row, headings like wikitext's ` = Title = ` too. Nothing is cut: a reader that
    takes 64 tokens sees the first 64 of each row. The corpus stdlib leaves out what the embedded tasks test on.
    Raises: WrongUsage for what is not there, empty or no text; Problem where a download fails.
    """
    name = str(name_or_path)
    if name == "stdlib":
        return stdlib_parts.split(stdlib.documents()).pretraining
    if name.startswith("hf:"):
        texts = _hugging_face(name)
    else:
        texts = [line for file in _files(name) for line in _lines(file)]
    rows = [text.strip() for text in texts if text.strip()]
    if not rows:
        raise WrongUsage(f"need a corpus with text in it; {name} holds none")
    return rows


def documents(name_or_path):
    """A corpus as documents, lists of its rows: what sentence pairs are packed from.

    In text files a blank line parts documents, and so does the end of a file; of stdlib each module's documentation is
    one, without the rows that the embedded tasks test on.
    Raises: WrongUsage for a corpus that has no documents.
    """
    name = str(name_or_path)
    if name == "stdlib":
        kept, found = set(load(name)), {}
        for row in stdlib.documents():
            if row.text in kept:
                found.setdefault(row.module, []).append(row.text)
        return list(found.values())
    if name.startswith("hf:"):
        raise WrongUsage("need a corpus of documents for sentence pairs: stdlib, or text files with blank lines "
                         "between documents; rows of a data set have no order that is known")
    found = [document for file in _files(name) for document in pairs.documents(_lines(file))]
    if len(found) < 2:
        raise WrongUsage(f"need at least two documents, with a blank line between them; {name} has {len(found)}")
    return found


def _files(name):
    """The text file of this name, or those in the folder of this name."""
    path = Path(name)
    if not path.exists():
        raise WrongUsage(f"need a corpus: stdlib, a text file, a folder of *.txt files or hf:NAME; there is no {name}")
    if not path.is_dir():
        return [path]
    files = sorted((file for file in path.rglob("*.txt") if file.is_file()), key=Path.as_posix)
    if not files:
        raise WrongUsage(f"need a folder with *.txt files in it; found none in {name}")
    return files


def _lines(path):
    try:
        return path.read_bytes().decode("utf-8").removeprefix("\ufeff").split("\n")
    except UnicodeDecodeError as error:
        raise WrongUsage(f"need text in UTF-8; {path} has the byte 0x{error.object[error.start]:02x} "
                         f"at offset {error.start}: convert the file") from None
    except OSError as error:
        raise WrongUsage(f"cannot read {path}: {error.strerror}") from None


def _hugging_face(name):
    """The text column of hf:NAME[:CONFIG][@SPLIT]."""
    import datasets

    where, _, split = name.removeprefix("hf:").partition("@")
    where, _, config = where.partition(":")
    if not where:
        raise WrongUsage(f"need the name of a data set: hf:NAME[:CONFIG][@SPLIT]; got {name}")
    try:
        rows = datasets.load_dataset(where, config or None, split=split or "train")
    except Exception as error:                      # of the network, the hub, the file format: a dozen classes
        reason = " ".join(str(error).split()) or type(error).__name__
        raise Problem(f"cannot load {name} (hf:NAME[:CONFIG][@SPLIT]; this needs the network or an earlier download): "
                      f"{reason}") from None
    texts = [column for column, kind in rows.features.items() if getattr(kind, "dtype", None) in STRINGS]
    column = "text" if "text" in texts else texts[0] if len(texts) == 1 else None
    if column is None:
        raise WrongUsage(f"need a data set with a column text, or with one column of strings; {name} has "
                         f"{', '.join(rows.features)}")
    return [text for text in rows[column] if text is not None]


def parts(name_or_path, of_documents=False):
    """(train, held out) of a corpus: its rows, or its documents."""
    return split_documents(documents(name_or_path)) if of_documents else split(load(name_or_path))


def split(texts, held_out=0.05, least=1, what="texts"):
    """(train, held out): about `held_out` of the texts, chosen by what each says and by nothing else.

    Texts that differ in case, digits, punctuation or spaces alone fall on the same side. Either side has `least` that
    differ: where chance would have it otherwise, it gets the texts nearest to the border.
    Raises: WrongUsage, which calls the texts `what`, where too few of them differ.
    """
    if not 0 < held_out < 1:
        raise WrongUsage(f"need a held-out share between 0 and 1; got {held_out}")
    fractions = [fraction(text) for text in texts]
    ordered = sorted(set(fractions))
    if len(ordered) < 2 * least:
        raise WrongUsage(f"need at least {2 * least} {what} that differ in their words, {least} of them to hold out; "
                         f"got {len(ordered)} among {len(texts)}")
    border = min(max(held_out, ordered[least]), ordered[-least])        # held out: below it; train: from it up
    held = [text for text, f in zip(texts, fractions) if f < border]
    return [text for text, f in zip(texts, fractions) if f >= border], held


def split_documents(documents, held_out=0.05):
    """`split` of documents, which are lists of rows: two at least on either side, since pairs are made of two."""
    whole = split(["\n".join(document) for document in documents], held_out, least=2, what="documents")
    return tuple([text.split("\n") for text in part] for part in whole)


def fraction(text):
    """A number in [0, 1) that is the same for near-duplicates, on every machine: a hash of the letters in `text`."""
    letters = re.sub(r"[\W\d_]+", " ", text.lower()).strip()
    return int.from_bytes(hashlib.blake2b(letters.encode(), digest_size=6).digest(), "big") / 2 ** 48
