"""Tasks in GLUE's files: what is read and refused, that what is written is read again, and the published counts."""

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinydistill import tasks
from tinydistill.data import inputs
from tinydistill.data.tokenizer import train_wordpiece
from tinydistill.errors import WrongUsage
from tinydistill.methods import bert
from tinydistill.tasks.glue import LAYOUTS, read, write

GOOD = "sentence\tlabel\nso good \t1\nso \"bad\t0\n"
SST_2 = tasks.get("sst-2")


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "train.tsv").write_text(GOOD, encoding="utf-8")
    (tmp_path / "dev.tsv").write_text(GOOD, encoding="utf-8")
    return tmp_path


def test_a_folder_in_the_layout_of_glue(folder):
    splits = SST_2.load(folder)
    assert list(splits) == ["train", "dev"]
    assert splits["train"].texts == ["so good", 'so "bad']                  # a quote is a character
    assert splits["train"].labels.tolist() == [1, 0] and len(splits["dev"]) == 2
    (folder / "test.tsv").write_text(GOOD, encoding="utf-8")
    assert list(SST_2.load(str(folder))) == ["train", "dev", "test"]


def test_glues_own_test_file_has_no_labels_and_is_left_out(folder):
    (folder / "test.tsv").write_text("index\tsentence\n0\tuneasy mishmash\n", encoding="utf-8")
    assert list(SST_2.load(folder)) == ["train", "dev"]


@pytest.mark.parametrize("data", [
    GOOD.encode(), GOOD.replace("\n", "\r\n").encode(), b"\xef\xbb\xbf" + GOOD.encode(), GOOD.rstrip("\n").encode(),
    GOOD.encode() + b"\n\r\n", b"label\tid\tsentence\n1\t7\tso good\n0\t8\tso \"bad\n",
])
def test_line_ends_byte_order_mark_and_further_columns_do_not_matter(tmp_path, data):
    (tmp_path / "x.tsv").write_bytes(data)
    examples = read(tmp_path / "x.tsv", LAYOUTS["sst-2"])
    assert examples.texts == ["so good", 'so "bad'] and examples.labels.tolist() == [1, 0]


def test_only_line_feeds_end_a_line(tmp_path):
    (tmp_path / "x.tsv").write_text("sentence\tlabel\none\u2028line\x0bhere\x85too\t1\n", encoding="utf-8")
    assert read(tmp_path / "x.tsv", LAYOUTS["sst-2"]).texts == ["one\u2028line\x0bhere\x85too"]


@pytest.mark.parametrize("data, message", [
    (b"", ", line 1: need a header with columns 'sentence' and 'label', the file is empty"),
    (b"\n\n", ", line 1: need a header with columns 'sentence' and 'label', the file is empty"),
    (b"text\tlabel\nx\t1\n", ", line 1: need a header with a column 'sentence', got 'text\\tlabel'"),
    (b"sentence\nx\n", ", line 1: need a header with a column 'label', which train.tsv must have"),
    (b"sentence\tlabel\n", ", line 2: need at least one row below the header"),
    (b"sentence\tlabel\nx\t1\ny\n", ", line 3: need 2 columns (sentence, label), got 1"),
    (b"sentence\tlabel\nx\ty\t1\n", ", line 2: need 2 columns (sentence, label), got 3"),
    (b"sentence\tlabel\n\nx\t1\n", ", line 2: need 2 columns (sentence, label), got 1"),
    (b"sentence\tlabel\nx\t1\n \t1\n", ", line 3: the sentence is empty"),
    (b"sentence\tlabel\nx\t2\n", ", line 2: need a label out of 0, 1; got '2'"),
    (b"sentence\tlabel\nx\t-1\n", ", line 2: need a label out of 0, 1; got '-1'"),
    (b"sentence\tlabel\r\nx\tgood\r\n", ", line 2: need a label out of 0, 1; got 'good'"),
    (b"sentence\tlabel\nx\t\n", ", line 2: need a label out of 0, 1; got ''"),
    (b"sentence\tlabel\nx\t1\ncaf\xe9\t1\n", ", line 3: need UTF-8, got byte 0xe9"),
    (b"\xef\xbb\xbfsentence\tlabel\n\xff\t1\n", ", line 2: need UTF-8, got byte 0xff"),
    (b"\n\xff", ", line 2: need UTF-8, got byte 0xff"),
    (b"\x1f\x8b\x08\x00rest", ", line 1: need UTF-8, got byte 0x8b"),
])
def test_what_is_wrong_is_said_in_one_line_with_file_and_line_number(folder, data, message):
    (folder / "train.tsv").write_bytes(data)
    with pytest.raises(WrongUsage) as caught:
        SST_2.load(folder)
    assert str(caught.value) == f"{folder / 'train.tsv'}{message}"
    assert caught.value.exit_code == 2


def test_missing_files_and_folders(folder, tmp_path):
    with pytest.raises(WrongUsage, match="sst-2 needs a data folder with train.tsv and dev.tsv"):
        SST_2.load()
    with pytest.raises(WrongUsage, match=r"cannot read .*nowhere.train\.tsv: No such file or directory"):
        SST_2.load(tmp_path / "nowhere")
    (folder / "dev.tsv").unlink()
    with pytest.raises(WrongUsage, match=r"cannot read .*dev\.tsv: No such file or directory"):
        SST_2.load(folder)
    (folder / "dev.tsv").mkdir()
    with pytest.raises(WrongUsage, match=r"cannot read .*dev\.tsv: Is a directory"):
        SST_2.load(folder)


def test_an_overlong_cell_does_not_flood_the_error(folder):
    (folder / "train.tsv").write_text("sentence\tlabel\nx\t" + "9" * 10**6, encoding="utf-8")
    with pytest.raises(WrongUsage) as caught:
        SST_2.load(folder)
    assert len(str(caught.value)) < len(str(folder)) + 100


def test_every_sentence_is_encoded_with_its_label(folder):
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "so", "good", "bad"]
    tokenizer = Tokenizer(models.WordLevel({piece: i for i, piece in enumerate(pieces)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    sequences, labels, token_types = SST_2.load(folder)["train"].encode(tokenizer, 16)
    assert [ids.tolist() for ids in sequences] == [[2, 5, 6, 3], [2, 5, 1, 7, 3]] and labels.tolist() == [1, 0]
    assert token_types is None


# ---------------------------------------------------------------- pairs

def write_text(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def test_of_each_task_the_columns_that_glue_has(tmp_path):
    """The headers are those of GLUE's files; the rows say which cell is which."""
    files = {
        "mrpc": ("Quality\t#1 ID\t#2 ID\t#1 String\t#2 String", "1\t7\t8\tA\tB", 1),
        "qqp": ("id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate", "5\t7\t8\tA\tB\t1", 1),
        "mnli": ("index\tpromptID\tpairID\tgenre\tsentence1_binary_parse\tsentence2_binary_parse\tsentence1_parse\t"
                 "sentence2_parse\tsentence1\tsentence2\tlabel1\tgold_label",
                 "0\t1\t1\tfiction\t( a )\t( b )\t(S a)\t(S b)\tA\tB\tentailment\tneutral", 2),
        "qnli": ("index\tquestion\tsentence\tlabel", "0\tA\tB\tnot_entailment", 1),
        "rte": ("index\tsentence1\tsentence2\tlabel", "0\tA\tB\tentailment", 0),
        "wnli": ("index\tsentence1\tsentence2\tlabel", "0\tA\tB\t1", 1),
    }
    assert files.keys() == {name for name, layout in LAYOUTS.items() if len(layout.texts) == 2}
    for name, (header, row, label) in files.items():
        examples = read(write_text(tmp_path / name, f"{header}\n{row}\n"), LAYOUTS[name])
        assert examples.rows == [("A", "B")] and examples.labels.tolist() == [label], name
        assert len(tasks.get(name).labels) == len(LAYOUTS[name].classes) == (3 if name == "mnli" else 2)


def test_the_logits_are_in_the_order_of_berts_processors():
    assert tasks.get("mnli").labels == ("contradiction", "entailment", "neutral")
    for name in ("rte", "qnli"):
        assert tasks.get(name).labels == ("entailment", "not_entailment")
    for name in ("cola", "sst-2", "mrpc", "qqp", "wnli"):
        assert list(LAYOUTS[name].classes) == ["0", "1"]


def test_cola_has_no_header(tmp_path):
    path = write_text(tmp_path / "train.tsv", "gj04\t1\t\tThey left.\nks08\t0\t*\tThey leaves.\n")
    examples = read(path, LAYOUTS["cola"])
    assert examples.rows == [("They left.",), ("They leaves.",)] and examples.labels.tolist() == [1, 0]
    with pytest.raises(WrongUsage, match=r"line 1: need 4 columns \(source, label, mark, sentence\), got 2$"):
        read(write_text(tmp_path / "x.tsv", "sentence\tlabel\n"), LAYOUTS["cola"])
    with pytest.raises(WrongUsage, match="line 1: need 4 columns, the file is empty$"):
        read(write_text(tmp_path / "x.tsv", ""), LAYOUTS["cola"])


def test_mnli_has_two_dev_sets(tmp_path):
    for name in ("train", "dev_matched", "dev_mismatched"):
        write_text(tmp_path / f"{name}.tsv", f"sentence1\tsentence2\tgold_label\n{name}\tB\tneutral\n")
    splits = tasks.get("mnli").load(tmp_path)
    assert {split: part.texts for split, part in splits.items()} == {
        "train": ["train"], "dev": ["dev_matched"], "dev-mismatched": ["dev_mismatched"]}
    (tmp_path / "dev_mismatched.tsv").unlink()
    with pytest.raises(WrongUsage, match=r"cannot read .*dev_mismatched\.tsv"):
        tasks.get("mnli").load(tmp_path)


def test_short_rows_are_left_out_where_published_readers_do(tmp_path):
    header = "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n"
    path = write_text(tmp_path / "x.tsv", header + "1\t2\t3\tcut off\n4\t5\t6\tA\tB\t0\n")
    assert read(path, LAYOUTS["qqp"]).rows == [("A", "B")]
    write_text(path, header + "4\t5\t6\tA\tB\t0\tmore\n")
    with pytest.raises(WrongUsage, match="line 2: need 6 columns .*, got 7$"):
        read(path, LAYOUTS["qqp"])
    write_text(path, header + "1\t2\t3\tcut off\n")
    with pytest.raises(WrongUsage, match="line 2: need at least one row below the header$"):
        read(path, LAYOUTS["qqp"])
    write_text(path, "index\tsentence1\tsentence2\tlabel\n0\tA\n")
    with pytest.raises(WrongUsage, match="line 2: need 4 columns .*, got 2$"):
        read(path, LAYOUTS["rte"])


def test_one_text_of_a_pair_may_be_empty(tmp_path):
    path = write_text(tmp_path / "x.tsv", "sentence1\tsentence2\tlabel\nA\t \tentailment\n\tB\tentailment\n")
    assert read(path, LAYOUTS["rte"]).rows == [("A", ""), ("", "B")]
    write_text(path, "sentence1\tsentence2\tlabel\n \t\tentailment\n")
    with pytest.raises(WrongUsage, match="line 2: the sentence1 and the sentence2 is empty$"):
        read(path, LAYOUTS["rte"])


def test_what_is_wrong_with_a_pair(tmp_path):
    path = write_text(tmp_path / "x.tsv", "sentence1\tlabel\nA\tentailment\n")
    with pytest.raises(WrongUsage, match="line 1: need a header with a column 'sentence2', got"):
        read(path, LAYOUTS["rte"])
    write_text(path, "sentence1\tsentence2\tlabel\nA\tB\tneutral\n")
    with pytest.raises(WrongUsage, match="line 2: need a label out of entailment, not_entailment; got 'neutral'$"):
        read(path, LAYOUTS["rte"])
    write_text(path, "")
    with pytest.raises(WrongUsage, match="need a header with columns 'question1', 'question2' and 'is_duplicate', the"):
        read(path, LAYOUTS["qqp"])


def test_token_types_of_a_pair_reach_the_batch(tmp_path):
    rows = "\n".join(f"a b c\t{'b ' * n}\tentailment" for n in range(1, 6))
    examples = read(write_text(tmp_path / "x.tsv", f"sentence1\tsentence2\tlabel\n{rows}\n"), LAYOUTS["rte"])
    tokenizer = train_wordpiece(["a b c"], 30)
    batch = inputs.labelled(examples, tokenizer, bert.finetune.recipes["laptop"].but(batch_size=8), 0).at(0)
    a, b, c = (tokenizer.token_to_id(letter) for letter in "abc")
    for ids, types, mask in zip(batch.ids, batch.token_types, batch.mask):
        n = mask.sum() - 6
        assert ids[mask].tolist() == [2, a, b, c, 3] + [b] * n + [3]
        assert types.tolist() == [0] * 5 + [1] * (n + 1) + [0] * (5 - n)


# ---------------------------------------------------------------- writing

text = st.text(st.characters(blacklist_categories=("Cs",)), max_size=12).map(
    lambda text: text.replace("\t", " ").replace("\r", " ").replace("\n", " ").strip())


@given(st.data(), st.sampled_from(sorted(LAYOUTS)))
def test_what_is_written_is_read_again(tmp_path_factory, data, name):
    layout, path = LAYOUTS[name], tmp_path_factory.mktemp("glue") / "x.tsv"
    texts = st.tuples(*(text.filter(bool) for _ in layout.texts))
    rows = data.draw(st.lists(st.tuples(texts, st.integers(0, len(layout.classes) - 1)), min_size=1, max_size=5))
    assert write(path, layout, iter(rows)) == len(rows)
    examples = read(path, layout)
    assert list(zip(examples.rows, examples.labels)) == rows
    assert os.listdir(path.parent) == ["x.tsv"]


def test_tabs_and_line_ends_in_a_text_become_spaces(tmp_path):
    write(tmp_path / "x.tsv", LAYOUTS["sst-2"], [(("a\tb\r\nc",), 1)])
    assert (tmp_path / "x.tsv").read_bytes() == b"sentence\tlabel\na b  c\t1\n"


def test_a_file_that_cannot_be_written_or_finished(tmp_path):
    with pytest.raises(WrongUsage, match="cannot write .*: No such file or directory$"):
        write(tmp_path / "nowhere" / "x.tsv", LAYOUTS["sst-2"], [])

    def rows():
        yield ("a",), 1
        raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "x.tsv", LAYOUTS["sst-2"], rows())
    assert os.listdir(tmp_path) == []


# ---------------------------------------------------------------- the published files

PUBLISHED = {                                       # folder: {split: (rows, rows of class 1)}
    "sst-2": ("SST-2", {"train": (67349, 37569), "dev": (872, 444)}),
    "cola": ("CoLA", {"train": (8551, 6023), "dev": (1043, 719)}),
    "mrpc": ("MRPC", {"train": (3668, 2474), "dev": (408, 279), "test": (1725, 1147)}),
    "rte": ("RTE", {"train": (2490, 1241), "dev": (277, 131)}),
    "wnli": ("WNLI", {"train": (635, 312), "dev": (71, 31)}),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_published_counts(name):
    if "TINYDISTILL_DATA" not in os.environ:
        pytest.skip("TINYDISTILL_DATA is not set: GLUE's files are not part of the project")
    folder, counts = PUBLISHED[name]
    splits = tasks.get(name).load(Path(os.environ["TINYDISTILL_DATA"]) / folder)
    assert {split: (len(part), int(part.labels.sum())) for split, part in splits.items()} == counts


def test_the_first_row_of_published_files():
    if "TINYDISTILL_DATA" not in os.environ:
        pytest.skip("TINYDISTILL_DATA is not set: GLUE's files are not part of the project")
    data = Path(os.environ["TINYDISTILL_DATA"])
    dev = SST_2.load(data / "SST-2")["dev"]
    assert dev.rows[0] == ("it 's a charming and often affecting journey .",) and dev.labels[0] == 1
    assert SST_2.score(np.eye(2)[dev.labels], dev.labels) == {"accuracy": 1.0}
    dev = tasks.get("rte").load(data / "RTE")["dev"]
    assert dev.rows[0][1] == "Christopher Reeve had an accident." and dev.labels[0] == 1
    dev = tasks.get("cola").load(data / "CoLA")["dev"]
    assert dev.rows[0] == ("The sailors rode the breeze clear of the rocks.",) and dev.labels[0] == 1
