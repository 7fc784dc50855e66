"""RoBERTa's and XLM-R's tokenizers beside BERT's: trained here, read from their files, opened by transformers."""

import hashlib
import json
import os
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oracle import roberta as oracle
from tinydistill.data import inputs
from tinydistill.data import tokenizer as tokenizers
from tinydistill.data import tokenizer_training
from tinydistill.data.augmentation import words
from tinydistill.data.masking import mask_counted_official, mask_tokens
from tinydistill.data.tokenizer import encode, encode_words, special_ids
from tinydistill.errors import Problem, WrongUsage
from tinydistill.methods.stage import Recipe

TEXTS = ["the cat sat on the mat", "the bat sat on the cat", "a hat, a mat: that is flat!", "Hats and CATS"] * 3
SIZE = 330
RECIPE = Recipe(steps=1, batch_size=2, learning_rate=0.1, max_length=12)
KINDS = {name: train(TEXTS, SIZE) for name, train in tokenizers.KINDS.items()}
every_kind = pytest.mark.parametrize("kind", KINDS)
both_others = pytest.mark.parametrize("kind", ["bpe", "unigram"])


def tokens(tokenizer, ids):
    return [tokenizer.id_to_token(int(i)) for i in ids]


# ---------------------------------------------------------------- training

def test_three_processes_learn_the_same(tmp_path):
    """All words are equally frequent, so that nearly every choice is a tie; threads, hash seeds and order differ."""
    letters = np.random.default_rng(0).integers(0, 6, (300, 6))
    words_ = sorted({"".join("abcdef"[i] for i in word) for word in letters})
    (tmp_path / "words.txt").write_text("\n".join(words_))
    script = """if True:
        import hashlib, sys
        from tinydistill.data.tokenizer import KINDS
        words = open(sys.argv[1]).read().split()
        for train in KINDS.values():
            print(hashlib.sha256(train(words, 350).to_str().encode()).hexdigest())
    """
    running = [subprocess.Popen([sys.executable, "-c", script, str(tmp_path / "words.txt")], text=True,
                                stdout=subprocess.PIPE, env={**os.environ, "PYTHONHASHSEED": str(i),
                                                             "RAYON_NUM_THREADS": str(1 + i)}) for i in range(3)]
    here = [hashlib.sha256(train(words_[::-1], 350).to_str().encode()).hexdigest()
            for train in tokenizers.KINDS.values()]
    assert {process.communicate()[0] for process in running} == {"".join(f"{digest}\n" for digest in here)}


@given(st.lists(st.text("abc", min_size=1, max_size=7), min_size=1, max_size=30), st.integers(261, 275))
def test_bpe_merges_the_most_frequent_pair_first(words_, size):
    """Of bytes: pairs of equal count by their ids, as long as a pair comes twice."""
    trained = tokenizers.train_bpe([" ".join(words_)], size).get_vocab()
    alphabet = sorted(trained, key=trained.get)[4:260]
    vocabulary = [*tokenizer_training.ROBERTA, *alphabet]
    counts = Counter([words_[0], *("Ġ" + word for word in words_[1:])])
    cut = {word: list(word) for word in counts}
    while len(vocabulary) < size - 1:
        pairs = Counter()
        for word, pieces in cut.items():
            for pair in zip(pieces, pieces[1:]):
                pairs[pair] += counts[word]
        if not pairs or max(pairs.values()) < 2:
            break
        left, right = min(pairs, key=lambda pair: (-pairs[pair], *map(vocabulary.index, pair)))
        if left + right not in vocabulary:
            vocabulary.append(left + right)
        for pieces in cut.values():
            i = 0
            while i < len(pieces) - 1:
                if pieces[i] == left and pieces[i + 1] == right:
                    pieces[i:i + 2] = [left + right]
                i += 1
    assert sorted(trained, key=trained.get) == [*vocabulary, "<mask>"]


def test_bpe_has_every_byte_and_robertas_ids():
    tokenizer = KINDS["bpe"]
    assert [tokenizer.token_to_id(token) for token in ("<s>", "<pad>", "</s>", "<unk>")] == [0, 1, 2, 3]
    assert tokenizer.token_to_id("<mask>") == tokenizer.get_vocab_size() - 1
    for text in ("žluťoučký 猫 \U0001f408\n", "Ġ ▁ \x00"):
        ids = encode(tokenizer, [text], 99)[0]
        assert 3 not in ids and tokenizer.decode(ids.tolist()) == text
    with pytest.raises(WrongUsage, match="need a vocabulary of at least 261 for the special tokens and single chara"):
        tokenizers.train_bpe(TEXTS, 260)
    assert tokenizers.train_bpe(TEXTS, 261).get_vocab_size() == 261
    for texts in ([], ["", " \n"]):
        with pytest.raises(WrongUsage, match="need texts with at least one word to train a tokenizer; got none$"):
            tokenizers.train_bpe(texts, 300)


# ---------------------------------------------------------------- text to ids

@both_others
def test_one_text_and_two_in_robertas_format(kind):
    tokenizer, space = KINDS[kind], {"bpe": "Ġ", "unigram": "▁"}[kind]
    first = "the" if kind == "bpe" else "▁the"                          # to BPE a text begins without a space
    ids = encode(tokenizer, ["the cat"], 20)[0]
    assert tokens(tokenizer, ids) == ["<s>", first, space + "cat", "</s>"] and ids.dtype == np.int32
    (ids,), (types,) = encode(tokenizer, ["the cat"], 20, ["the mat"])
    assert tokens(tokenizer, ids) == ["<s>", first, space + "cat", "</s>", "</s>", first, space + "mat", "</s>"]
    assert types.tolist() == [0] * 8
    (ids,), _ = encode(tokenizer, ["the cat"], 7, ["the mat"])
    assert tokens(tokenizer, ids) == ["<s>", first, space + "cat", "</s>", "</s>", first, "</s>"]
    with pytest.raises(WrongUsage, match="need a maximum length with room for 4 special tokens and two texts; got 5$"):
        encode(tokenizer, ["the"], 5, ["the"])


@both_others
def test_words_are_cut_as_behind_a_space(kind):
    tokenizer, sentence = KINDS[kind], ["the", "cat", "sat", ",", "xż", ""]
    (ids,), (begins,) = encode_words(tokenizer, [sentence], 40)
    expected = [tokenizer.encode(" " + word, add_special_tokens=False).ids or [3] for word in sentence]
    assert ids.tolist() == [0, *(i for word in expected for i in word), 2]
    space = {"bpe": "Ġ", "unigram": "▁"}[kind]
    assert tokens(tokenizer, ids)[1:3] == [space + "the", space + "cat"]
    numbers = [n if k == 0 else -1 for n, word in enumerate(expected) for k in range(len(word))]
    assert begins.tolist() == [-1, *numbers, -1]


@every_kind
def test_documents_are_packed_in_the_tokenizers_format(kind):
    tokenizer, documents = KINDS[kind], [["the cat sat", "on the mat", "a hat"], ["the bat sat", "on the cat"]]
    batches = inputs.paired(documents, tokenizer, RECIPE, seed=1)
    special, between = special_ids(tokenizer), 1 if kind == "wordpiece" else 2
    for ids, types in zip(batches.sequences, batches.token_types):
        places = np.flatnonzero(ids == special.sep)
        assert ids[0] == special.cls and places[-1] == len(ids) - 1 <= 11 and len(places) == between + 1
        assert places[between - 1] - places[0] == between - 1
        assert types.tolist() == ([0] * (places[0] + 1) + [1] * (len(ids) - places[0] - 1) if kind == "wordpiece"
                                  else [0] * len(ids))
    with pytest.raises(WrongUsage, match=f"{between + 2} special tokens and two sentences; got {between + 3}$"):
        inputs.paired(documents, tokenizer, RECIPE.but(max_length=between + 3), seed=1)


@both_others
def test_augmentation_parts_words_as_bert_does(kind):
    with pytest.raises(WrongUsage, match="need a model with a BERT tokenizer to augment texts; got one whose words"):
        words(KINDS[kind], "the cat")


# ---------------------------------------------------------------- special tokens

def test_of_two_spellings_that_counts_which_is_marked_as_special():
    from tokenizers import Tokenizer, models
    both = ["[CLS]", "<s>", "[SEP]", "</s>", "[PAD]", "<pad>", "[UNK]", "<unk>", "[MASK]", "<mask>"]
    tokenizer = Tokenizer(models.WordLevel({piece: i for i, piece in enumerate(both)}, unk_token="<unk>"))
    assert special_ids(tokenizer) == tokenizers.SpecialIds(pad=4, unk=6, cls=0, sep=2, mask=8)
    tokenizer.add_special_tokens(both[1::2])
    assert special_ids(tokenizer) == tokenizers.SpecialIds(pad=5, unk=7, cls=1, sep=3, mask=9)
    tokenizer.add_tokens(["[CLS]"])                                     # added, and not special
    assert special_ids(tokenizer).cls == 1


@every_kind
def test_masking_hides_and_draws_no_special_token(kind):
    tokenizer = KINDS[kind]
    special, size = special_ids(tokenizer), tokenizer.get_vocab_size()
    sequences = encode(tokenizer, TEXTS * 9, 16)
    ids = np.full((len(sequences), 16), special.pad)
    for row, sequence in zip(ids, sequences):
        row[:len(sequence)] = sequence
    mask, rows, specials = ids != special.pad, np.arange(len(ids)), list(vars(special).values())
    corrupted, labels = mask_tokens(ids, mask, rows, special, size, 0.9)
    hidden = labels != -100
    assert not np.isin(ids[hidden], specials).any() and (corrupted[~hidden] == ids[~hidden]).all()
    assert (corrupted[hidden] == special.mask).mean() > 0.7
    drawn = corrupted[hidden & (corrupted != special.mask) & (corrupted != ids)]
    assert len(drawn) > 50 and not np.isin(drawn, specials).any() and drawn.max() < size
    _, labels = mask_counted_official(ids, mask, rows, special, size, 0.9)
    assert not np.isin(labels, (special.cls, special.sep, special.pad)).any()


# ---------------------------------------------------------------- files

@every_kind
def test_what_is_saved_is_loaded_without_fixed_padding_and_truncation(kind, tmp_path):
    from tokenizers import Tokenizer
    tokenizer = KINDS[kind]
    fixed = Tokenizer.from_str(tokenizer.to_str())
    fixed.enable_padding(length=12, pad_id=special_ids(tokenizer).pad)
    fixed.enable_truncation(4)
    tokenizers.save(fixed, tmp_path)
    loaded = tokenizers.load(tmp_path)
    assert loaded.to_str() == tokenizer.to_str() != fixed.to_str()
    assert tokenizers.fingerprint(loaded) == tokenizers.fingerprint(tokenizer)
    assert len({tokenizers.fingerprint(other) for other in KINDS.values()}) == 3


PROBES = ["the cat sat on a mat", " leading space", "The CATS, ½ naïve  and\twide", "", "a {mask} sat",
          "x{mask}y {mask}"]


def probes(tokenizer):
    mask = tokenizer.id_to_token(special_ids(tokenizer).mask)
    return [text.replace("{mask}", mask) for text in PROBES]


def check_alike(tokenizer, directory, pairs_typed):
    """Ids of every text and pair, token types, special tokens: as transformers has them."""
    firsts = probes(tokenizer)
    seconds = firsts[::-1]
    ids, types, special, theirs = oracle.rows(directory, firsts)
    assert ids == [row.tolist() for row in encode(tokenizer, firsts, 99)]
    ids, types, special, theirs = oracle.rows(directory, firsts, seconds)
    ours, our_types = encode(tokenizer, firsts, 99, seconds)
    assert ids == [row.tolist() for row in ours]
    assert types == ([row.tolist() for row in our_types] if pairs_typed else None)
    assert special == vars(special_ids(tokenizer)) and len(theirs) == tokenizer.get_vocab_size()
    return theirs


@pytest.mark.parametrize("model_type", ["bert", "roberta", "xlm-roberta"])
@every_kind
def test_transformers_opens_what_is_written_and_encodes_alike(kind, model_type, tmp_path):
    """With any model: a multilingual MiniLM is a BERT over XLM-R's pieces."""
    tokenizer = KINDS[kind]
    tokenizers.save(tokenizer, tmp_path)
    for name, content in (("tokenizer_config.json", tokenizers.settings(tokenizer, 64)),
                          ("config.json", {"model_type": model_type})):
        (tmp_path / name).write_text(json.dumps(content))
    theirs = check_alike(tokenizer, tmp_path, kind == "wordpiece")
    assert theirs.model_max_length == 64
    assert (theirs.bos_token, theirs.eos_token) == ((None, None) if kind == "wordpiece" else ("<s>", "</s>"))


@pytest.mark.parametrize("kind, written", [("bpe", "RobertaTokenizer"), ("unigram", "XLMRobertaTokenizer")])
def test_what_transformers_writes_is_read(kind, written, tmp_path):
    """RoBERTa's and XLM-R's own classes there, around the pieces learned here."""
    assert oracle.save_own(KINDS[kind].to_str(), tmp_path) == written
    loaded = tokenizers.load(tmp_path)
    assert special_ids(loaded) == special_ids(KINDS[kind])
    check_alike(loaded, tmp_path, False)
    for ours, found in zip(encode(KINDS[kind], TEXTS, 99), encode(loaded, TEXTS, 99)):
        assert ours.tolist() == found.tolist()


def test_a_tokenizer_converted_from_sentencepiece_may_squeeze_spaces(tmp_path):
    from tokenizers import Regex, Tokenizer, normalizers
    tokenizer = Tokenizer.from_str(KINDS["unigram"].to_str())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")])
    tokenizers.save(tokenizer, tmp_path)
    assert tokenizers.load(tmp_path).to_str() == tokenizer.to_str()
    tokenizer.normalizer = normalizers.Replace(Regex("(a+)+b"), " ")
    tokenizers.save(tokenizer, tmp_path)
    with pytest.raises(Problem, match="holds a regular expression, which no BERT, RoBERTa or XLM-R tokenizer needs"):
        tokenizers.load(tmp_path)


def test_settings_leave_out_what_a_tokenizer_has_not():
    from tokenizers import Tokenizer, models
    bare = Tokenizer(models.WordLevel({"a": 0, "<s>": 1, "[UNK]": 2}, unk_token="[UNK]"))
    assert tokenizers.settings(bare, 9) == {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 9,
                                            "unk_token": "[UNK]", "cls_token": "<s>"}
