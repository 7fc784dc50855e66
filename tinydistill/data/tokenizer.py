"""Texts to ids by WordPiece, byte-level BPE or Unigram: tokenizers read from any checkpoint, each in its own format.

    BERT           [CLS] A [SEP]      [CLS] A [SEP] B [SEP]      token types 0 up to the first [SEP], 1 after it
    RoBERTa, XLM-R <s> A </s>         <s> A </s></s> B </s>      token types 0

The work is done by Hugging Face's `tokenizers`. Nothing here changes a tokenizer after it was loaded, so that any
number of threads may encode with it.
"""

import contextlib
import hashlib
import itertools
import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tinydistill.data.tokenizer_training import bert, train_bpe, train_wordpiece
from tinydistill.data.unigram import train_unigram
from tinydistill.errors import Problem, WrongUsage

KINDS = {"wordpiece": train_wordpiece, "bpe": train_bpe, "unigram": train_unigram}     # BERT's, RoBERTa's, XLM-R's
SPELLINGS = {"pad": ("[PAD]", "<pad>"), "unk": ("[UNK]", "<unk>"), "cls": ("[CLS]", "<s>"),
             "sep": ("[SEP]", "</s>"), "mask": ("[MASK]", "<mask>")}  # BERT's, RoBERTa's

# What a tokenizer.json may be made of: the parts of the published BERT, RoBERTa and XLM-R tokenizers.
MODELS = {"WordPiece", "BPE", "Unigram", "WordLevel"}
PARTS = {"Sequence", "BertNormalizer", "Lowercase", "NFC", "NFD", "NFKC", "NFKD", "Nmt", "Precompiled", "Strip",
         "StripAccents", "BertPreTokenizer", "ByteLevel", "Metaspace", "Whitespace", "WhitespaceSplit", "Punctuation",
         "Digits", "TemplateProcessing", "BertProcessing", "RobertaProcessing", "WordPiece", "BPEDecoder", "Fuse",
         "Replace"}
EXPRESSIONS = {" {2,}"}                                               # where SentencePiece's files were converted
LARGEST_FILE = 64 << 20                                               # bytes; XLM-R's 250,002 pieces take 17 MB
LARGEST_ID = 1 << 24


# ---------------------------------------------------------------- files

def load(directory):
    """The tokenizer of a checkpoint directory: its tokenizer.json, or else a BERT tokenizer around its vocab.txt.

    The padding and truncation that a tokenizer.json may prescribe are lifted. The file may come from anybody: it is
    refused where it holds parts outside `PARTS` or a regular expression, which can take for ever to match.
    Raises: WrongUsage where there is neither file, Problem where one cannot be read.
    """
    directory = Path(directory)
    if (directory / "tokenizer.json").is_file():
        tokenizer = _from_json(directory / "tokenizer.json")
    elif (directory / "vocab.txt").is_file():
        tokenizer = _from_vocabulary(directory)
    else:
        raise WrongUsage(f"need a directory with a tokenizer.json or a vocab.txt; found neither in {directory}")
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def save(tokenizer, directory):
    """Write `directory`/tokenizer.json, the same bytes for the same tokenizer."""
    Path(directory).mkdir(parents=True, exist_ok=True)
    (Path(directory) / "tokenizer.json").write_text(tokenizer.to_str(), encoding="utf-8")


def _from_json(path):
    from tokenizers import Tokenizer

    text = _read(path)
    with _explained(path):
        description = json.loads(text)
        strange = list(_strange([description.get(name) for name in ("normalizer", "pre_tokenizer", "post_processor",
                                                                    "decoder")]))
        if description.get("model", {}).get("type", "WordPiece") not in MODELS:
            strange.append(f"a model of type {description['model']['type']}")
        if strange:
            raise Problem(f"{path} holds {strange[0]}, which no BERT, RoBERTa or XLM-R tokenizer needs, and was not "
                          f"loaded: use the tokenizer of the published model")
        tokenizer = Tokenizer.from_str(text)
        if max(tokenizer.get_vocab().values(), default=0) >= LARGEST_ID:
            raise ValueError(f"an id is not below {LARGEST_ID}")
    return tokenizer


def _from_vocabulary(directory):
    path, settings = directory / "vocab.txt", directory / "tokenizer_config.json"
    lowercase = True
    if settings.is_file():
        with _explained(settings):
            lowercase = bool(json.loads(_read(settings)).get("do_lower_case", True))
    pieces = [line.rstrip("\r") for line in _read(path).removesuffix("\n").split("\n")]
    with _explained(path):
        if len(set(pieces)) < len(pieces):
            raise ValueError(f"the piece {Counter(pieces).most_common(1)[0][0]!r} stands there twice")
        if not {"[UNK]", "[CLS]", "[SEP]"} <= set(pieces):
            raise ValueError(f"no line of it is {sorted({'[UNK]', '[CLS]', '[SEP]'} - set(pieces))[0]}")
        return bert({piece: i for i, piece in enumerate(pieces)}, lowercase)


def _read(path):
    if path.stat().st_size > LARGEST_FILE:
        raise Problem(f"need {path} to be at most {LARGEST_FILE >> 20} MiB, as every tokenizer is; "
                      f"it has {path.stat().st_size >> 20} MiB")
    with _explained(path):
        return path.read_bytes().decode("utf-8")


def _strange(part):
    """What stands in this part of a tokenizer.json (a tree of dicts and lists) and is not allowed there."""
    if isinstance(part, dict):
        if "Regex" in part and part["Regex"] not in EXPRESSIONS:
            yield "a regular expression"
        if "type" in part and part["type"] not in PARTS:
            yield f"a part of type {part['type']}"
    if isinstance(part, (dict, list)):
        for inner in part.values() if isinstance(part, dict) else part:
            yield from _strange(inner)


@contextlib.contextmanager
def _explained(path):
    """Whatever goes wrong in here is one line about `path`: a panic of the Rust library, too, which is no Exception."""
    try:
        yield
    except BaseException as error:
        if isinstance(error, Problem) or not (isinstance(error, Exception) or type(error).__name__ == "PanicException"):
            raise
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise Problem(f"cannot read {path}: {reason}: it is damaged, or no file of a tokenizer") from None


# ---------------------------------------------------------------- text to ids

@dataclass(frozen=True)
class SpecialIds:
    """The ids of the five special tokens."""

    pad: int
    unk: int
    cls: int
    sep: int
    mask: int


def special_ids(tokenizer):
    """Where [PAD], [UNK], [CLS], [SEP], [MASK] are (RoBERTa writes <pad>, <unk>, <s>, </s>, <mask>).

    Of two spellings the one counts that the file marks as special.
    """
    found = _spelled(tokenizer)
    for name, spellings in SPELLINGS.items():
        if name not in found:
            raise Problem(f"need a tokenizer with the special token {' or '.join(spellings)}; "
                          f"its {tokenizer.get_vocab_size()} pieces hold neither")
    return SpecialIds(**{name: tokenizer.token_to_id(token) for name, token in found.items()})


def _spelled(tokenizer):
    """{"pad": "<pad>", ...} of the special tokens that the tokenizer has."""
    marked = {token.content for token in tokenizer.get_added_tokens_decoder().values() if token.special}
    found = {}
    for name, spellings in SPELLINGS.items():
        there = [token for token in spellings if tokenizer.token_to_id(token) is not None]
        if there:
            found[name] = min(there, key=lambda token: token not in marked)
    return found


def same(directories):
    """The tokenizer of several models, which must be one. Raises: WrongUsage where vocabularies differ."""
    tokenizer, *others = (load(path) for path in directories)
    for path, other in zip(directories[1:], others):
        if other.get_vocab() != tokenizer.get_vocab():
            raise WrongUsage(f"need models with one vocabulary: that of {path} differs from that of {directories[0]}")
    return tokenizer


def settings(tokenizer, longest):
    """What tokenizer_config.json has to say beside tokenizer.json, for transformers to encode as we do: a dict.

    longest: how many tokens a sequence of the model may have. A tokenizer that is none of BERT's opens as
    PreTrainedTokenizerFast, which takes tokenizer.json as it stands: the classes of RoBERTa and XLM-R build normaliser
    and frame anew. Where pairs have one token type, none is handed to the model.
    """
    normalizer = json.loads(tokenizer.to_str())["normalizer"] or {}
    is_bert = normalizer.get("type") == "BertNormalizer"
    found = {f"{name}_token": token for name, token in _spelled(tokenizer).items()}
    if found.get("cls_token") == "<s>" and found.get("sep_token") == "</s>":
        found |= {"bos_token": "<s>", "eos_token": "</s>"}
    if not any(token_type for _, token_type, _ in _frame(tokenizer, 2)):
        found["model_input_names"] = ["input_ids", "attention_mask"]
    if is_bert:
        found |= {"do_lower_case": normalizer["lowercase"], "strip_accents": normalizer["strip_accents"],
                  "tokenize_chinese_chars": normalizer["handle_chinese_chars"]}
    return {"tokenizer_class": "BertTokenizer" if is_bert else "PreTrainedTokenizerFast",
            "model_max_length": longest, **found}


def encode(tokenizer, texts, max_length, pairs=None):
    """The ids (int32) of each text in the tokenizer's own format, at most `max_length` with the special tokens.

    With `pairs`, the second text of each row: the ids of both and their token types, two lists. A row that is too long
    loses tokens at the end of A or B, always the longer.
    Raises: WrongUsage where `max_length` leaves no room for text, or the number of pairs differs.
    Source: `_truncate_seq_pair` of google-research/bert run_classifier.py: of two equally long texts, B is cut.
    (The library's own truncation cuts A there, and takes quadratic time on long pairs.)
    """
    texts, pairs = list(texts), None if pairs is None else list(pairs)
    if pairs is not None and len(pairs) != len(texts):
        raise WrongUsage(f"need a second text for each first; got {len(texts)} first and {len(pairs)} second texts")
    frame = _frame(tokenizer, 1 if pairs is None else 2)
    room = _room(frame, max_length, 1 if pairs is None else 2)
    firsts = [e.ids for e in tokenizer.encode_batch(texts, add_special_tokens=False)]
    if pairs is None:
        return [_framed(frame, first[:room])[0] for first in firsts]
    seconds = [e.ids for e in tokenizer.encode_batch(pairs, add_special_tokens=False)]
    rows = []
    for first, second in zip(firsts, seconds):
        second = second[:max(room // 2, room - len(first))]
        rows.append(_framed(frame, first[:room - len(second)], second))
    return [ids for ids, _ in rows], [token_types for _, token_types in rows]


def pair_format(tokenizer):
    """join(A, B) -> (ids, token types) of two lists of ids, as the tokenizer itself joins two texts."""
    frame = _frame(tokenizer, 2)
    return lambda first, second: _framed(frame, first, second)


def encode_words(tokenizer, sentences, max_length):
    """The ids of sentences that are lists of words, and which word begins where: two lists of (T,) int32.

    At most `max_length` with the special tokens: pieces at the end are lost. The second list has the number of a word
    at the first of its pieces, -1 at further pieces and special tokens. Each word is cut for itself, as behind a space,
    which to BPE is part of it; one of which the tokenizer leaves nothing (a lone joiner or control character) is [UNK].
    Raises: WrongUsage where `max_length` leaves no room for text.
    """
    frame = _frame(tokenizer, 1)
    room = _room(frame, max_length, 1)
    unknown, distinct = [special_ids(tokenizer).unk], list(dict.fromkeys(itertools.chain.from_iterable(sentences)))
    spaced = tokenizer.encode_batch([" " + word for word in distinct], add_special_tokens=False)
    pieces = {word: found.ids or unknown for word, found in zip(distinct, spaced)}
    outside = [(text, token_type, [-1] * len(tokens)) for text, token_type, tokens in frame]
    rows = []
    for words in sentences:
        ids = [i for word in words for i in pieces[word]]
        begins = [-1 if k else n for n, word in enumerate(words) for k in range(len(pieces[word]))]
        rows.append((_framed(frame, ids[:room])[0], _framed(outside, begins[:room])[0]))
    return [ids for ids, _ in rows], [begins for _, begins in rows]


def _room(frame, max_length, count):
    """How many tokens of `count` texts fit in the frame."""
    special = sum(len(tokens) for text, _, tokens in frame if text is None)
    if max_length - special < count:
        raise WrongUsage(f"need a maximum length with room for {special} special tokens and "
                         f"{'text' if count == 1 else 'two texts'}; got {max_length}")
    return max_length - special


def _frame(tokenizer, count):
    """What the tokenizer puts around `count` texts, read off an example: (number of the text or None, type, ids)."""
    example = tokenizer.encode(*["a", "a"][:count])
    parts = itertools.groupby(zip(example.sequence_ids, example.type_ids, example.ids), key=lambda part: part[:2])
    return [(text, token_type, [i for *_, i in group]) for (text, token_type), group in parts]


def _framed(frame, *texts):
    ids, token_types = [], []
    for text, token_type, tokens in frame:
        part = tokens if text is None else texts[text]
        ids += part
        token_types += [token_type] * len(part)
    return np.array(ids, np.int32), np.array(token_types, np.int32)


def fingerprint(tokenizer):
    """sha256 of all that a tokenizer is, in hexadecimal."""
    return hashlib.sha256(tokenizer.to_str().encode()).hexdigest()
