"""`distill --method shared-projection`: a student with word pieces of its own, from one command to a plain BERT."""

import json

import pytest

from oracle import families
from tinydistill import cli, hub
from tinydistill.data import tokenizer as tokenizers


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    corpus = tmp_path_factory.mktemp("corpus") / "corpus.txt"
    corpus.write_text("\n".join(f"the {a} of the {b} returns value {i}" for i in range(40)
                                for a in ("name", "file", "size") for b in ("header", "module")), encoding="utf-8")
    run = corpus.parent / "teacher"
    assert cli.main(["pretrain", "--student", "2x16x2", "--corpus", str(corpus), "--vocabulary", "120", "--max-steps", "4",
                     "--output", str(run), "--quiet"]) == 0
    return corpus, run


def distil(capsys, teacher, output, *more):
    corpus, run = teacher
    code = cli.main(["distill", "--method", "shared-projection", "--teacher", str(run), "--student", "2x8x2", "--corpus",
                     str(corpus), "--output", str(output), "--max-steps", "8", "--quiet", "--json", *more])
    out, err = capsys.readouterr()
    return code, json.loads(out) if code == 0 else err


def test_the_student_is_a_plain_bert_over_its_own_pieces(capsys, tmp_path, teacher):
    code, result = distil(capsys, teacher, tmp_path / "run", "--set", "vocabulary=60")
    assert code == 0 and set(result["held_out"]) == {"masked_lm"} and set(result["stages"]) == {"mixed", "dual"}
    own, first = tokenizers.load(tmp_path / "run"), tokenizers.load(teacher[1])
    model = hub.read(tmp_path / "run")
    assert model.config.vocabulary == own.get_vocab_size() <= 60 < first.get_vocab_size()
    assert (model.config.model_type, str(model.config)) == ("bert", "BERT 2x8")
    assert families.opened(tmp_path / "run")[1] == "BertForMaskedLM"
    again = distil(capsys, teacher, tmp_path / "again", "--set", "vocabulary=60")[1]
    assert again["sha256"] == result["sha256"]
    other = distil(capsys, teacher, tmp_path / "other", "--set", "vocabulary=60", "--skip", "mixed")[1]
    assert other["sha256"] != result["sha256"] and set(other["held_out"]) == {"masked_lm"}


def test_without_pieces_of_its_own_it_keeps_the_teachers(capsys, tmp_path, teacher):
    code, result = distil(capsys, teacher, tmp_path / "run", "--set", "vocabulary=0")
    assert code == 0
    assert tokenizers.load(tmp_path / "run").get_vocab() == tokenizers.load(teacher[1]).get_vocab()


def test_what_cannot_be_is_one_line(capsys, tmp_path, teacher):
    code, err = distil(capsys, teacher, tmp_path / "run", "--set", "vocabulary=60", "--pairs")
    assert code == 2 and len(err.splitlines()) == 1
