"""The task `tagging`: files of words and tags, labels known from the data, a label at the first piece of a word."""

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinydistill import cli, hub, tasks
from tinydistill.data import tokenizer as tokenizers
from tinydistill.data.tokenizer import encode_words, train_wordpiece
from tinydistill.errors import WrongUsage
from tinydistill.features import IGNORED
from tinydistill.students.bert import Bert
from tinydistill.architectures import parse
from tinydistill.tasks.tagging import Tagged, read

TAGGING = tasks.get("tagging")
CONLL = "Ada\tB-person\nLovelace\tI-person\nleft\tO\n\nLondon\tB-place\n"
CONLLU = """# sent_id = 1
1-2\tdon't\t_\t_\t_\t_\t_\t_\t_\t_
1\tdo\tdo\tAUX\t_\t_\t_\t_\t_\t_
2\tn't\tnot\tPART\t_\t_\t_\t_\t_\t_
2.1\tgo\tgo\tVERB\t_\t_\t_\t_\t_\t_

# sent_id = 2
1\t#\t#\tSYM\t_\t_\t_\t_\t_\t_
"""


@pytest.fixture
def folder(tmp_path):
    for split in ("train", "dev"):
        (tmp_path / f"{split}.conll").write_text(CONLL, encoding="utf-8")
    return tmp_path


def data_folder(name):
    if "TINYDISTILL_DATA" not in os.environ:
        pytest.skip(f"TINYDISTILL_DATA is not set: {name} is not part of the project")
    return Path(os.environ["TINYDISTILL_DATA"]) / name


# ---------------------------------------------------------------- files

@pytest.mark.parametrize("text", [CONLL, CONLL.replace("\n", "\r\n"), "\n\n" + CONLL, "\ufeff" + CONLL, CONLL + "\n\n",
                                  CONLL.replace("\n\n", "\n\t\n \n")])
def test_conll(tmp_path, text):
    (tmp_path / "x.conll").write_text(text, encoding="utf-8", newline="")
    assert read(tmp_path / "x.conll") == [(["Ada", "Lovelace", "left"], ["B-person", "I-person", "O"]),
                                          (["London"], ["B-place"])]


def test_a_hash_is_a_word_in_conll(tmp_path):
    (tmp_path / "x.conll").write_text("#tag\tO\n", encoding="utf-8")
    assert read(tmp_path / "x.conll") == [(["#tag"], ["O"])]


def test_conllu_reads_forms_and_universal_tags(tmp_path):
    (tmp_path / "x.conllu").write_text(CONLLU, encoding="utf-8")
    assert read(tmp_path / "x.conllu") == [(["do", "n't"], ["AUX", "PART"]), (["#"], ["SYM"])]


@pytest.mark.parametrize("name, text, message", [
    ("x.conll", "", ", line 1: need a word and its tag, the file is empty"),
    ("x.conll", " \n\t\n.", ", line 3: need a word and its tag, got '.'"),
    ("x.conll", " \n\t", ", line 1: need a word and its tag, the file has none"),
    ("x.conll", "Ada\tO\nleft\n", ", line 2: need a word and its tag, got 'left'"),
    ("x.conll", "Ada\tNNP\tO\n", ", line 1: need a word and its tag, got 'Ada\\tNNP\\tO'"),
    ("x.conll", "Ada\t \n", ", line 1: need a word and its tag, got 'Ada\\t '"),
    ("x.conll", "\tO\n", ", line 1: need a word and its tag, got '\\tO'"),
    ("x.conllu", "# a comment\n1\tAda\tAda\tPROPN\n", ", line 2: need 10 columns, got 4"),
    ("x.conllu", "# nothing else\n", ", line 1: need a word and its tag, the file has none"),
])
def test_what_is_wrong_is_said_with_file_and_line(tmp_path, name, text, message):
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(WrongUsage) as caught:
        read(tmp_path / name)
    assert str(caught.value) == f"{tmp_path / name}{message}"


# ---------------------------------------------------------------- the task

def test_labels_are_those_of_train_in_order(folder):
    assert TAGGING.labels == ()
    task, splits = TAGGING.open(folder)
    assert task.labels == ("B-person", "B-place", "I-person", "O") == splits["dev"].classes
    assert list(splits) == ["train", "dev"]
    assert splits["train"].tags == [[0, 2, 3], [1]] and len(splits["train"]) == 2
    assert list(task.metrics) == ["span f1", "accuracy"] and TAGGING.labels == ()


def test_a_task_whose_labels_are_known_opens_as_itself(tmp_path):
    for split in ("train", "dev"):
        (tmp_path / f"{split}.tsv").write_text("sentence\tlabel\nx\t1\n")
    task, splits = tasks.get("sst-2").open(tmp_path)
    assert task is tasks.get("sst-2") and splits["dev"].texts == ["x"]


def test_a_label_that_train_has_not(folder):
    (folder / "test.conll").write_text("Ada\tB-person\n\nNile\tB-river\n", encoding="utf-8")
    with pytest.raises(WrongUsage, match=r"test\.conll: need labels that train has \(B-person, B-place, I-person, O\); "
                                         r"got 'B-river'$"):
        TAGGING.load(folder)


def test_missing_files(tmp_path, folder):
    with pytest.raises(WrongUsage, match="tagging needs a data folder with train.conll and dev.conll, or .conllu"):
        TAGGING.load()
    (folder / "dev.conll").unlink()
    with pytest.raises(WrongUsage, match=r"tagging needs dev\.conll or dev\.conllu; found neither in "):
        TAGGING.load(folder)


def test_the_score_is_f1_of_spans_and_accuracy_of_words(folder):
    task, splits = TAGGING.open(folder)
    tokenizer = train_wordpiece(["ada lovelace left london"], 60)
    labels = splits["dev"].encode(tokenizer, 60).labels
    right = [np.eye(4)[np.where(row == IGNORED, 0, row)] for row in labels]
    assert task.score(right, labels) == {"span f1": 1.0, "accuracy": 1.0}
    outside = [np.tile(np.eye(4)[3], (len(row), 1)) for row in labels]
    assert task.score(outside, labels) == {"span f1": 0.0, "accuracy": 0.25}


def test_parts_of_speech_have_no_spans(tmp_path):
    for split in ("train", "dev"):
        (tmp_path / f"{split}.conllu").write_text(CONLLU, encoding="utf-8")
    task, _ = TAGGING.open(tmp_path)
    assert task.labels == ("AUX", "PART", "SYM") and list(task.metrics) == ["accuracy"]


# ---------------------------------------------------------------- words and pieces

@pytest.fixture(scope="module")
def tokenizer():
    return train_wordpiece(["ab", "ab", "c"], 20)               # a ##b as one piece, no other merges


def test_the_first_piece_of_a_word_has_its_label(tokenizer):
    assert "ab" in tokenizer.get_vocab() and "abc" not in tokenizer.get_vocab()
    tagged = Tagged([["c", "cab", "\u200d", "ab"], ["ab"]], [[0, 1, 2, 1], [3]], ("w", "x", "y", "z"))
    sequences, labels, token_types = tagged.encode(tokenizer, 16)
    pieces = [[tokenizer.id_to_token(i) for i in ids] for ids in sequences]
    assert pieces == [["[CLS]", "c", "[UNK]", "[UNK]", "ab", "[SEP]"], ["[CLS]", "ab", "[SEP]"]]
    assert [row.tolist() for row in labels] == [[IGNORED, 0, 1, 2, 1, IGNORED], [IGNORED, 3, IGNORED]]
    assert token_types is None


words = st.lists(st.text("abcxyz!", min_size=1, max_size=4), min_size=1, max_size=6)
LETTERS = train_wordpiece(["a b c x y z abcxyz zyxcba ! ab ab ab"], 60)


@given(st.lists(words, min_size=1, max_size=4), st.integers(3, 20))
def test_words_are_the_text_that_they_make(sentences, max_length):
    """The same ids as of the words with spaces between; every word that is inside begins once, at its first piece."""
    ids, begins = encode_words(LETTERS, sentences, max_length)
    joined = tokenizers.encode(LETTERS, [" ".join(words) for words in sentences], max_length)
    for words, row, begin, same in zip(sentences, ids, begins, joined):
        assert np.array_equal(row, same) and len(begin) == len(row)
        places = np.flatnonzero(begin >= 0)
        assert begin[places].tolist() == list(range(len(places)))
        assert places[0] == 1 and begin[-1] == -1
        if len(row) < max_length:
            assert len(places) == len(words)
        for n, place in enumerate(places):
            assert row[place] == LETTERS.encode(words[n], add_special_tokens=False).ids[0]


def test_no_room_for_words():
    with pytest.raises(WrongUsage, match="need a maximum length with room for 2 special tokens and text; got 2$"):
        encode_words(LETTERS, [["a"]], 2)


# ---------------------------------------------------------------- on the command line

def test_finetune_and_evaluate(tmp_path, capsys):
    """A model that learns which of two words has which tag; the labels are in the checkpoint, in their order."""
    text = "\n\n".join(f"the\tO\n{a}\tB-x\n{b}\tI-x\nof\tO" for a, b in zip("abab", "abba"))
    for split in ("train", "dev", "test"):
        (tmp_path / f"{split}.conll").write_text(text + "\n", encoding="utf-8")
    tokenizer = train_wordpiece(["the a b of"], 40)
    model = Bert(parse("1x16").but(vocabulary=tokenizer.get_vocab_size(), initial_std=0.2), 0)
    hub.write(model, tmp_path / "body", tokenizer)
    common = ["--task", "tagging", "--data", str(tmp_path), "--quiet"]
    assert cli.main(["finetune", *common, "--model", str(tmp_path / "body"), "--output", str(tmp_path / "tuned"),
                     "--epochs", "60", "--lr", "1e-2"]) == 0
    assert "dev: span f1 1.0000  accuracy 1.0000" in capsys.readouterr().out
    assert hub.read(tmp_path / "tuned").config.labels == ("B-x", "I-x", "O")
    assert cli.main(["evaluate", *common, "--model", str(tmp_path / "tuned"), "--split", "test"]) == 0
    assert "tagging test (4 examples): span f1 1.0000  accuracy 1.0000" in capsys.readouterr().out
    assert cli.main(["evaluate", *common, "--model", str(tmp_path / "tuned"), "--split", "extra"]) == 2
    assert "need a split that tagging has labels for (train, dev, test); got extra" in capsys.readouterr().err


# ---------------------------------------------------------------- published data

def test_wnut_17():
    task, splits = TAGGING.open(data_folder("NER-wnut17"))
    assert {name: (len(part), sum(map(len, part.sentences))) for name, part in splits.items()} == {
        "train": (3394, 62730), "dev": (1009, 15733), "test": (1287, 23394)}
    assert len(task.labels) == 13 and task.labels[-1] == "O" and task.metric == "span f1"
    tokenizer = tokenizers.load(data_folder("BERT-vocab"))
    _, labels, _ = splits["dev"].encode(tokenizer, 512)
    assert sum((row != IGNORED).sum() for row in labels) == 15733          # every word has its label once
    in_order = np.concatenate([row[row != IGNORED] for row in labels])
    assert in_order.tolist() == [tag for tags in splits["dev"].tags for tag in tags]


def test_universal_dependencies(tmp_path):
    data = data_folder("POS-ewt")
    sentences = {name: read(data / f"{name}.conllu") for name in ("dev", "test")}
    assert {name: len(part) for name, part in sentences.items()} == {"dev": 2001, "test": 2077}
    (tmp_path / "train.conllu").symlink_to(data / "dev.conllu")
    (tmp_path / "dev.conllu").symlink_to(data / "test.conllu")
    task, _ = TAGGING.open(tmp_path)
    assert " ".join(task.labels) == ("ADJ ADP ADV AUX CCONJ DET INTJ NOUN NUM PART PRON PROPN PUNCT SCONJ SYM VERB X")
    assert task.metric == "accuracy"
