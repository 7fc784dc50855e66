import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tinydistill import tasks
from tinydistill.errors import WrongUsage
from tinydistill.tasks.single_sentence import SST_2, read_tsv

GOOD = "sentence\tlabel\nso good \t1\nso \"bad\t0\n"


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
    examples = read_tsv(tmp_path / "x.tsv", 2)
    assert examples.texts == ["so good", 'so "bad'] and examples.labels.tolist() == [1, 0]


def test_only_line_feeds_end_a_line(tmp_path):
    (tmp_path / "x.tsv").write_text("sentence\tlabel\none\u2028line\x0bhere\x85too\t1\n", encoding="utf-8")
    assert read_tsv(tmp_path / "x.tsv", 2).texts == ["one\u2028line\x0bhere\x85too"]


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
    (b"sentence\tlabel\nx\t2\n", ", line 2: need a label from 0 to 1, got '2'"),
    (b"sentence\tlabel\nx\t-1\n", ", line 2: need a label from 0 to 1, got '-1'"),
    (b"sentence\tlabel\r\nx\tgood\r\n", ", line 2: need a label from 0 to 1, got 'good'"),
    (b"sentence\tlabel\nx\t\n", ", line 2: need a label from 0 to 1, got ''"),
    (b"sentence\tlabel\nx\t1\ncaf\xe9\t1\n", ", line 3: need UTF-8, got byte 0xe9"),
    (b"\xef\xbb\xbfsentence\tlabel\n\xff\t1\n", ", line 2: need UTF-8, got byte 0xff"),
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


def test_sst_2_has_the_published_counts():
    if "TINYDISTILL_DATA" not in os.environ:
        pytest.skip("TINYDISTILL_DATA is not set: SST-2 is not part of the project")
    splits = SST_2.load(Path(os.environ["TINYDISTILL_DATA"]) / "SST-2")
    assert {name: (len(part), int(part.labels.sum())) for name, part in splits.items()} == {
        "train": (67349, 37569), "dev": (872, 444)}
    assert splits["dev"].texts[0] == "it 's a charming and often affecting journey ." and splits["dev"].labels[0] == 1
    assert SST_2.score(np.eye(2)[splits["dev"].labels], splits["dev"].labels) == {"accuracy": 1.0}


def test_every_sentence_is_encoded_with_its_label(folder):
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "so", "good", "bad"]
    tokenizer = Tokenizer(models.WordLevel({piece: i for i, piece in enumerate(pieces)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    sequences, labels = SST_2.load(folder)["train"].encode(tokenizer, 16)
    assert [ids.tolist() for ids in sequences] == [[2, 5, 6, 3], [2, 5, 1, 7, 3]] and labels.tolist() == [1, 0]


# ---------------------------------------------------------------- the list of tasks

def test_tasks_are_found_by_name():
    assert list(tasks.TASKS) == ["stdlib-replaced", "stdlib-modules", "sst-2"]
    for name, task in tasks.TASKS.items():
        assert tasks.get(name) is task and task.name == name
        assert task.what and task.source and task.kind in ("sequence", "token") and task.metric in ("accuracy", "auc")
    with pytest.raises(WrongUsage, match="need a task out of stdlib-replaced, stdlib-modules, sst-2; got 'sst2'"):
        tasks.get("sst2")


def test_the_list_of_tasks_imports_nothing_heavy():
    code = ("import sys, tinydistill.tasks; "
            "print(sorted({'tokenizers', 'datasets', 'scipy', 'matplotlib', 'safetensors'} & set(sys.modules)))")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True,
                          cwd=Path(tasks.__file__).parents[2])
    assert done.stdout.strip() == "[]"
