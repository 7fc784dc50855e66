"""WordPiece: the same vocabulary in every process, the merges it should learn, BERT's frame, files from anybody."""

import hashlib
import json
import os
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinydistill.data import tokenizer as wordpiece
from tinydistill.data import tokenizer_training
from tinydistill.errors import Problem, WrongUsage

TEXTS = ["the cat sat on the mat", "the bat sat on the cat", "a hat, a mat: that is flat!", "Hats and CATS"]


@pytest.fixture(scope="module")
def tokenizer():
    return wordpiece.train_wordpiece(TEXTS, 70)


def tokens(tokenizer, ids):
    return [tokenizer.id_to_token(int(i)) for i in ids]


# ---------------------------------------------------------------- training

def test_five_processes_learn_the_same_vocabulary(tmp_path):
    """All words are equally frequent, so that nearly every merge is a tie; threads and hash seeds differ."""
    letters = np.random.default_rng(0).integers(0, 6, (2000, 6))
    words = sorted({"".join("abcdef"[i] for i in word) for word in letters})
    (tmp_path / "words.txt").write_text("\n".join(words))
    script = """if True:
        import hashlib, sys
        from tinydistill.data.tokenizer import train_wordpiece
        tokenizer = train_wordpiece(open(sys.argv[1]).read().split(), 500)
        print(tokenizer.get_vocab_size(), hashlib.sha256(tokenizer.to_str().encode()).hexdigest())
    """
    running = [subprocess.Popen([sys.executable, "-c", script, str(tmp_path / "words.txt")], text=True,
                                stdout=subprocess.PIPE, env={**os.environ, "PYTHONHASHSEED": str(i),
                                                             "RAYON_NUM_THREADS": str(1 + i % 3)}) for i in range(5)]
    printed = [process.communicate()[0] for process in running]
    here = wordpiece.train_wordpiece(words[::-1], 500)         # the order of the texts does not matter either
    assert set(printed) == {f"500 {hashlib.sha256(here.to_str().encode()).hexdigest()}\n"}


def merged_pieces(words, vocabulary, size):
    """Greedy merging as it is defined: of the most frequent pairs, that with the smallest ids, as long as it comes
    twice. `words` counts words, `vocabulary` starts with all single characters."""
    vocabulary = list(vocabulary)
    segmented = {word: [word[0], *("##" + c for c in word[1:])] for word in words}
    while len(vocabulary) < size:
        pairs = Counter()
        for word, pieces in segmented.items():
            for pair in zip(pieces, pieces[1:]):
                pairs[pair] += words[word]
        if not pairs or max(pairs.values()) < 2:
            break
        left, right = min(pairs, key=lambda pair: (-pairs[pair], *map(vocabulary.index, pair)))
        new = left + right[2:]
        if new not in vocabulary:
            vocabulary.append(new)
        for pieces in segmented.values():
            i = 0
            while i < len(pieces) - 1:
                if (pieces[i], pieces[i + 1]) == (left, right):
                    pieces[i:i + 2] = [new]
                i += 1
    return vocabulary


@given(st.lists(st.text("abc", min_size=1, max_size=7), min_size=1, max_size=30), st.integers(11, 40))
def test_the_most_frequent_pair_is_merged_first(words, size):
    trained = wordpiece.train_wordpiece([" ".join(words)], size).get_vocab()
    characters = sorted({c for word in words for c in word})
    inner = sorted({c for word in words for c in word[1:]})
    start = [*tokenizer_training.BERT, *characters, *("##" + c for c in inner)]
    assert sorted(trained, key=trained.get) == merged_pieces(Counter(words), start, size)


def test_the_ids_are_berts_then_characters_then_merges(tokenizer):
    vocabulary = tokenizer.get_vocab()
    assert sorted(vocabulary, key=vocabulary.get) == [
        "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"!,:abcdefhilmnost", *("##" + c for c in "adehlnst"),
        "##at", "th", "the", "cat", "hat", "mat", "on", "sat"]
    assert wordpiece.special_ids(tokenizer) == wordpiece.SpecialIds(pad=0, unk=1, cls=2, sep=3, mask=4)


def test_the_rarest_characters_become_unknown_and_nothing_is_merged_across_them():
    common = " ".join("abcdefghijklmnopqrstuvwxyz0123456789éèà!")                               # 40 stay
    tokenizer = wordpiece.train_wordpiece([common * 9, "qżq qżq qżq bb bb"], 300, lowercase=False)
    assert tokens(tokenizer, wordpiece.encode(tokenizer, ["qżq é bb"], 9)[0]) == ["[CLS]", "[UNK]", "é", "bb", "[SEP]"]
    assert sum(len(piece) == 1 for piece in tokenizer.get_vocab()) == 40 and not tokenizer.token_to_id("qq")


def test_equally_rare_characters_stay_by_their_number():
    characters = list("abcdefghijklmnopqrstuvwxyz" + "αβγδεζηθικλμνξοπ")                        # 40 stay: up to ξ
    one, two = (wordpiece.train_wordpiece([" ".join(order)], 100) for order in (characters, characters[::-1]))
    assert one.to_str() == two.to_str() and one.token_to_id("ξ") and not one.token_to_id("ο")


def test_case_is_kept_where_it_is_to_be_kept():
    cased = wordpiece.train_wordpiece(["Cat cat CAT"] * 3, 70, lowercase=False)
    assert tokens(cased, wordpiece.encode(cased, ["Cat cat"], 10)[0]) == ["[CLS]", "Cat", "cat", "[SEP]"]


def test_a_vocabulary_that_is_too_small_and_texts_without_words():
    with pytest.raises(WrongUsage, match="need a vocabulary of at least 30 for the special tokens and single "
                                         "characters of these texts; got 29$"):
        wordpiece.train_wordpiece(TEXTS, 29)
    assert wordpiece.train_wordpiece(TEXTS, 30).get_vocab_size() == 30
    for texts in ([], ["", " \n"]):
        with pytest.raises(WrongUsage, match="need texts with at least one word to train a tokenizer; got none$"):
            wordpiece.train_wordpiece(texts, 100)


# ---------------------------------------------------------------- text to ids

def test_encoding(tokenizer):
    ids = wordpiece.encode(tokenizer, ["The cat: flat", "", "xyz"], 20)
    assert [tokens(tokenizer, row) for row in ids] == [["[CLS]", "the", "cat", ":", "f", "##l", "##at", "[SEP]"],
                                                       ["[CLS]", "[SEP]"], ["[CLS]", "[UNK]", "[SEP]"]]
    assert all(row.dtype == np.int32 for row in ids)
    assert wordpiece.encode(tokenizer, [], 20) == []
    assert tokens(tokenizer, wordpiece.encode(tokenizer, ["The cat: flat"], 4)[0]) == ["[CLS]", "the", "cat", "[SEP]"]


def test_encoding_pairs(tokenizer):
    ids, token_types = wordpiece.encode(tokenizer, ["The cat", "a"], 20, pairs=["sat on", ""])
    assert tokens(tokenizer, ids[0]) == ["[CLS]", "the", "cat", "[SEP]", "sat", "on", "[SEP]"]
    assert token_types[0].tolist() == [0, 0, 0, 0, 1, 1, 1] and token_types[0].dtype == ids[0].dtype == np.int32
    assert tokens(tokenizer, ids[1]) == ["[CLS]", "a", "[SEP]", "[SEP]"] and token_types[1].tolist() == [0, 0, 0, 1]
    assert wordpiece.encode(tokenizer, [], 20, pairs=[]) == ([], [])


@given(st.integers(0, 12), st.integers(0, 12), st.integers(5, 20))
def test_pairs_are_cut_as_bert_cuts_them(tokenizer, first, second, max_length):
    ids, token_types = wordpiece.encode(tokenizer, ["the " * first], max_length, pairs=["cat " * second])
    a, b = ["the"] * first, ["cat"] * second
    while len(a) + len(b) > max_length - 3:
        (a if len(a) > len(b) else b).pop()
    assert tokens(tokenizer, ids[0]) == ["[CLS]", *a, "[SEP]", *b, "[SEP]"]
    assert token_types[0].tolist() == [0] * (len(a) + 2) + [1] * (len(b) + 1)


def test_the_frame_is_the_tokenizers_own(tokenizer):
    from tokenizers import Tokenizer, processors
    roberta = Tokenizer.from_str(tokenizer.to_str())
    roberta.post_processor = processors.RobertaProcessing(("[SEP]", 3), ("[CLS]", 2))
    for max_length in (8, 9, 30):
        ids, token_types = wordpiece.encode(roberta, ["the cat sat on the mat"], max_length, pairs=["a hat"])
        roberta.enable_truncation(max_length)
        library = roberta.encode("the cat sat on the mat", "a hat")
        roberta.no_truncation()
        assert ids[0].tolist() == library.ids and token_types[0].tolist() == library.type_ids
    with pytest.raises(WrongUsage, match="need a maximum length with room for 4 special tokens and two texts; got 5$"):
        wordpiece.encode(roberta, ["the"], 5, pairs=["cat"])


def test_a_long_pair_takes_no_quadratic_time(tokenizer):
    """The library's own truncation keeps every pair of cut-off pieces: 20 seconds for a quarter of these lengths."""
    ids, _ = wordpiece.encode(tokenizer, ["the cat " * 20_000], 13, pairs=["the mat " * 20_000])
    assert len(ids[0]) == 13


def test_lengths_without_room(tokenizer):
    with pytest.raises(WrongUsage, match="need a maximum length with room for 2 special tokens and text; got 2$"):
        wordpiece.encode(tokenizer, ["the"], 2)
    with pytest.raises(WrongUsage, match="need a second text for each first; got 2 first and 1 second texts$"):
        wordpiece.encode(tokenizer, ["the", "cat"], 9, pairs=["mat"])


def test_threads_share_a_tokenizer(tokenizer):
    def work(max_length):
        return [row.tolist() for row in wordpiece.encode(tokenizer, TEXTS, max_length)]
    lengths = [3, 5, 8, 20] * 8
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(work, lengths)) == [work(length) for length in lengths]


def test_special_tokens_have_two_spellings_and_must_be_there():
    from tokenizers import Tokenizer, models
    roberta = Tokenizer(models.WordLevel({"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3, "<mask>": 4}, unk_token="<unk>"))
    assert wordpiece.special_ids(roberta) == wordpiece.SpecialIds(pad=1, unk=3, cls=0, sep=2, mask=4)
    without = Tokenizer(models.WordLevel({"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3}, unk_token="[UNK]"))
    with pytest.raises(Problem, match=r"with the special token \[MASK\] or <mask>; its 4 pieces hold neither$"):
        wordpiece.special_ids(without)


# ---------------------------------------------------------------- files

def test_what_is_saved_is_loaded_without_fixed_padding_and_truncation(tokenizer, tmp_path):
    from tokenizers import Tokenizer
    wordpiece.save(tokenizer, tmp_path / "new" / "folder")
    loaded = wordpiece.load(tmp_path / "new" / "folder")
    assert loaded.to_str() == tokenizer.to_str() == (tmp_path / "new/folder/tokenizer.json").read_text("utf-8")
    fixed = Tokenizer.from_str(tokenizer.to_str())
    fixed.enable_padding(length=12)
    fixed.enable_truncation(4)
    wordpiece.save(fixed, tmp_path)
    assert wordpiece.load(tmp_path).to_str() == tokenizer.to_str() != fixed.to_str()


def test_a_bare_vocabulary(tokenizer, tmp_path):
    vocabulary = tokenizer.get_vocab()
    (tmp_path / "vocab.txt").write_text("\r\n".join(sorted(vocabulary, key=vocabulary.get)) + "\r\n", newline="")
    assert wordpiece.load(str(tmp_path)).to_str() == tokenizer.to_str()
    (tmp_path / "tokenizer_config.json").write_text('{"do_lower_case": false}')
    cased = wordpiece.load(tmp_path)
    assert tokens(cased, wordpiece.encode(cased, ["The the"], 9)[0]) == ["[CLS]", "[UNK]", "the", "[SEP]"]


def test_neither_file(tmp_path):
    with pytest.raises(WrongUsage, match=r"need a directory with a tokenizer\.json or a vocab\.txt; found neither in "):
        wordpiece.load(tmp_path)


@pytest.mark.parametrize("lines, reason", [
    ("[UNK]\n[CLS]\n[SEP]\ncat\ncat\n", "the piece 'cat' stands there twice"),
    ("[UNK]\n[CLS]\ncat\n", r"no line of it is \[SEP\]")])
def test_a_vocabulary_that_is_none(tmp_path, lines, reason):
    (tmp_path / "vocab.txt").write_text(lines)
    with pytest.raises(Problem, match=rf"cannot read {tmp_path}/vocab.txt: {reason}: it is damaged, or no file of a t"):
        wordpiece.load(tmp_path)


@pytest.mark.parametrize("content", [
    b"", b"{", b"[]", b"3", b"{}", b'{"model": 3}', b"\xff\xfe", b"[" * 100_000, b'{"model": {"type": "WordPiece"}}',
    b'{"model": {"type": ["WordPiece"]}}', b'{"n": ' + b"1" * 5000 + b"}"])
def test_damaged_files(tmp_path, content):
    (tmp_path / "tokenizer.json").write_bytes(content)
    with pytest.raises(Problem, match=rf"^cannot read {tmp_path}/tokenizer.json: [^\n]+: it is damaged, or no file of "
                                      "a tokenizer$"):
        wordpiece.load(tmp_path)


@pytest.mark.parametrize("part, what", [
    ({"pre_tokenizer": {"type": "Split", "pattern": {"Regex": "(a+)+b"}, "behavior": "Isolated", "invert": False}},
     "a part of type Split"),
    ({"normalizer": {"type": "Sequence", "normalizers": [
        {"type": "Strip", "strip_left": True, "strip_right": True, "pattern": {"Regex": "x"}}]}},
     "a regular expression"),
    ({"decoder": {"type": "Sequence", "decoders": [{"type": "CTC"}]}}, "a part of type CTC"),
    ({"post_processor": {"type": "Sequence", "processors": [{"type": ["ByteLevel"]}]}}, None),
    ({"model": {"type": "Surprise", "vocab": {}}}, "a model of type Surprise")])
def test_parts_that_are_not_loaded(tokenizer, tmp_path, part, what):
    (tmp_path / "tokenizer.json").write_text(json.dumps({**json.loads(tokenizer.to_str()), **part}))
    expected = "cannot read" if what is None else (
        f"tokenizer.json holds {what}, which no BERT, RoBERTa or XLM-R tokenizer needs, and was not loaded: use the "
        f"tokenizer of the published model")
    with pytest.raises(Problem, match=expected):
        wordpiece.load(tmp_path)


def test_pieces_that_are_called_like_parts_and_limits(tokenizer, tmp_path, monkeypatch):
    path, description = tmp_path / "tokenizer.json", json.loads(tokenizer.to_str())
    description["model"]["vocab"] |= {"type": 38, "Regex": 39}
    path.write_text(json.dumps(description))
    assert wordpiece.load(tmp_path).token_to_id("Regex") == 39
    description["model"]["vocab"] |= {"far": 1 << 31}
    path.write_text(json.dumps(description))
    with pytest.raises(Problem, match="an id is not below 16777216: it is damaged"):
        wordpiece.load(tmp_path)
    monkeypatch.setattr(wordpiece, "LARGEST_FILE", 1 << 20)
    path.write_bytes(b" " * (3 << 20))
    with pytest.raises(Problem, match=r"tokenizer\.json to be at most 1 MiB, as every tokenizer is; it has 3 MiB$"):
        wordpiece.load(tmp_path)


def test_a_panic_of_the_library_is_one_line_and_an_interrupt_stays_one():
    PanicException = type("PanicException", (BaseException,), {})       # as the library's: no Exception
    with pytest.raises(Problem, match="^cannot read FILE: index out of range: it is damaged, or no file of a token"):
        with wordpiece._explained("FILE"):
            raise PanicException("index out of range\nand a backtrace")
    with pytest.raises(KeyboardInterrupt):
        with wordpiece._explained("FILE"):
            raise KeyboardInterrupt


def test_the_published_vocabulary(tmp_path):
    data = os.environ.get("TINYDISTILL_DATA")
    if not data:
        pytest.skip("TINYDISTILL_DATA names no folder with test data (BERT-vocab is read from it)")
    published = wordpiece.load(Path(data) / "BERT-vocab")
    (tmp_path / "vocab.txt").write_bytes((Path(data) / "BERT-vocab" / "vocab.txt").read_bytes())
    bare = wordpiece.load(tmp_path)
    assert published.get_vocab() == bare.get_vocab() and published.get_vocab_size() == 30_522
    assert wordpiece.special_ids(published) == wordpiece.SpecialIds(pad=0, unk=100, cls=101, sep=102, mask=103)
    lines = (Path(data) / "wikitext-2" / "valid.txt").read_text("utf-8").split("\n")[:400]
    ids = wordpiece.encode(published, lines, 128)
    assert all(np.array_equal(a, b) for a, b in zip(ids, wordpiece.encode(bare, lines, 128)))
    assert wordpiece.encode(published, ["Hello, world"], 9)[0].tolist() == [101, 7592, 1010, 2088, 102]
    assert max(map(len, ids)) == 128
