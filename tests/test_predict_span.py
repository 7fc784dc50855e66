"""`tinydistill predict` with models of spans, BERT and RoBERTa: the best answer that can be one, as the text has it."""

import io
import json

import numpy as np
import pytest

from test_cli import run
from tinydistill import architectures, hub
from tinydistill.data import tokenizer as tokenizers
from tinydistill.features import Batch, Features, Needs, Pass
from tinydistill.students.bert import Bert
from tinydistill.students.roberta import Roberta
from tinydistill.tensor import Tensor

WORDS = "value name file row reader line table key index number object method string error module test".split()
TEXT = " ".join(WORDS[i % len(WORDS)] for i in range(48))
FAMILIES = {"bert": ("1x8x2", "wordpiece", Bert), "roberta": ("roberta-1x8x2", "bpe", Roberta)}
TOKENIZERS = {kind: tokenizers.KINDS[kind]([TEXT, "the value of it is where"] * 4, 400)
              for kind in ("wordpiece", "bpe")}


@pytest.fixture(scope="module", params=FAMILIES)
def model(request, tmp_path_factory):
    """(directory, tokenizer, class) of a small model with a head for spans."""
    size, kind, model = FAMILIES[request.param]
    tokenizer, path = TOKENIZERS[kind], tmp_path_factory.mktemp("span") / request.param
    config = architectures.parse(size).but(vocabulary=tokenizer.get_vocab_size(), head="span", pooler=False,
                                           pad_id=tokenizers.special_ids(tokenizer).pad)
    hub.write(architectures.build(config, 0), path, tokenizer)
    return path, tokenizer, model


@pytest.fixture
def ask(model, monkeypatch, capsys):
    """ask((line, scores), ...): what `predict` prints where scores (n, 2) are the logits of the last text's n tokens.

    Whatever is not of that text - question, special tokens, padding - has larger ones.
    """
    path, _, kind = model

    def ask(*rows, more=("--json",)):
        def forced(self, batch, run):
            logits = np.full((*batch.ids.shape, 2), 1e6)
            for row, length, number in zip(logits, batch.mask.sum(axis=1), batch.indices):
                scores = rows[number][1]
                row[length - 1 - len(scores):length - 1] = scores
            return Features("forced", 1, batch.mask).has(logits=Tensor(logits))

        monkeypatch.setattr(kind, "__call__", forced)
        monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(line for line, _ in rows)))
        code, out, error = run(capsys, "predict", "--model", path, "--quiet", *more)
        return json.loads(out) if code == 0 and "--json" in more else (code, out, error)
    return ask


def at(count, starts, ends):
    """Logits of `count` tokens: 0 but for {place: logit} of starts and ends."""
    scores = np.zeros((count, 2))
    for column, places in enumerate((starts, ends)):
        for place, value in places.items():
            scores[place, column] = value
    return scores


def pieces(model, text):
    """The parts of the text that its tokens are."""
    return [text[a:b].strip() for a, b in model[1].encode(text, add_special_tokens=False).offsets]


# ---------------------------------------------------------------- the best pair

def test_words_of_the_text_are_one_token_each(model):
    """What the numbers below count on."""
    assert pieces(model, TEXT) == TEXT.split()


def test_the_best_start_and_end_are_the_answer_whatever_the_question_scores(ask):
    """Lines of different lengths, so that there is padding, too."""
    rows = [(f"where is it\t{TEXT}", at(48, {3: 5.0}, {6: 2.0})), ("where\tthe value of it", at(4, {1: 1.0}, {1: 3.0}))]
    assert ask(*rows) == [{"text": rows[0][0], "answer": " ".join(WORDS[3:7]), "score": 7.0},
                          {"text": rows[1][0], "answer": "value", "score": 4.0}]
    code, out, _ = ask(*rows, more=())
    assert code == 0 and out == f"{rows[0][0]}\n    {' '.join(WORDS[3:7])}\n{rows[1][0]}\n    value\n"


def test_an_answer_does_not_end_before_it_starts(ask):
    """The best start is behind the best end: start 10 and end 11, or start 1 and end 4, beat what crosses."""
    crossing = at(48, {10: 5.0, 1: 1.0}, {4: 3.0, 11: 2.0})
    answer, = ask((f"where\t{TEXT}", crossing))
    assert (answer["answer"], answer["score"]) == (" ".join(WORDS[10:12]), 7.0)
    crossing[4, 1] = 6.5                            # 1 to 4 is 7.5 now, and 10 to 4 would be 11.5
    answer, = ask((f"where\t{TEXT}", crossing))
    assert (answer["answer"], answer["score"]) == (" ".join(WORDS[1:5]), 7.5)


@pytest.mark.parametrize("last, words, score", [(31, (2, 32), 9.0), (32, (2, 5), 6.0)])
def test_an_answer_has_at_most_30_tokens(ask, last, words, score):
    answer, = ask((f"where\t{TEXT}", at(48, {2: 5.0}, {last: 4.0, 4: 1.0})))
    assert (answer["answer"].split(), answer["score"]) == (TEXT.split()[slice(*words)], score)


@pytest.mark.parametrize("seed", range(8))
def test_the_answer_is_the_best_of_all_that_can_be_one(ask, seed):
    rng = np.random.default_rng(seed)
    count = int(rng.integers(1, 48))
    line, scores = f"where\t{' '.join(TEXT.split()[:count])}", rng.standard_normal((count, 2))
    best, i, j = max((scores[i, 0] + scores[j, 1], i, j) for i in range(count) for j in range(i, min(count, i + 30)))
    answer, = ask((line, scores))
    assert answer == {"text": line, "answer": " ".join(TEXT.split()[i:j + 1]), "score": pytest.approx(best)}


# ---------------------------------------------------------------- in the words of the text

@pytest.mark.parametrize("text, first, last", [("The  VALUE of (It)!", 0, 6), ("a 3.5 \u20ac value", 1, 4),
                                               ("na\u00efve \u4e2d\u6587 name", 1, 2)])
def test_an_answer_stands_as_the_text_has_it(ask, model, text, first, last):
    """Capitals, spaces, accents, and characters that the vocabulary has not."""
    offsets = model[1].encode(text, add_special_tokens=False).offsets
    answer, = ask((f"where\t{text}", at(len(offsets), {first: 5.0}, {last: 5.0})))
    assert answer["answer"] == text[offsets[first][0]:offsets[last][1]].strip() != ""
    whole, = ask((f"where\t{text}", at(len(offsets), {0: 5.0}, {-1: 5.0})))
    assert whole["answer"] == text


def test_of_a_text_that_is_cut_the_rest_is_read(ask, model):
    special = len(tokenizers.pair_format(model[1])([], [])[0])
    scores = at(20 - special - len(pieces(model, "where")), {5: 1.0}, {-1: 1.0})
    answer, = ask((f"where\t{TEXT}", scores), more=("--json", "--max-length", "20"))
    assert answer["answer"].split() == TEXT.split()[5:len(scores)]


def test_special_tokens_that_somebody_types_are_text(ask, model):
    sep = model[1].id_to_token(tokenizers.special_ids(model[1]).sep)
    for line in (f"what {sep} is it\tthe value {sep} name", f"what\t{sep} value"):
        second = line.partition("\t")[2]
        answer, = ask((line, at(len(pieces(model, second)), {0: 1.0}, {-1: 1.0})))
        assert answer["answer"] == second


# ---------------------------------------------------------------- what is wrong

@pytest.mark.parametrize("lines, said", [
    (("where is the value", "where is the name"), "need a question, a TAB and the text that answers it in every line"),
    (("where\tthe value", "where is it"), "need a TAB in every line or in none; line 2 has none"),
    (("where\t",), "need a question, a TAB and the text that answers it in every line")])
def test_a_line_without_a_tab_is_one_line(ask, lines, said):
    code, out, error = ask(*((line, np.zeros((1, 2))) for line in lines))
    assert code == 2 and out == "" and said in error and error.count("\n") == 1


def test_a_text_of_which_no_token_is_left_is_one_line(tmp_path, monkeypatch, capsys):
    """BERT's tokenizer drops control characters; bytes are never dropped."""
    tokenizer = TOKENIZERS["wordpiece"]
    config = architectures.parse("1x8x2").but(vocabulary=tokenizer.get_vocab_size(), head="span", pooler=False)
    hub.write(architectures.build(config, 0), tmp_path, tokenizer)
    monkeypatch.setattr("sys.stdin", io.StringIO("where\tthe value\nwhere\t\u200d\n"))
    code, out, error = run(capsys, "predict", "--model", tmp_path, "--quiet")
    assert code == 2 and out == "" and error.count("\n") == 1
    assert "need a text with at least one token behind every TAB; 'where\\t\\u200d' has none" in error


def test_a_model_of_spans_answers_by_its_own_logits(model, monkeypatch, capsys):
    """Nothing forced: the score is that of the model's logits for the pair in the tokenizer's own format."""
    path, tokenizer, _ = model
    monkeypatch.setattr("sys.stdin", io.StringIO("where is it\tthe value of the file\n"))
    code, out, _ = run(capsys, "predict", "--model", path, "--quiet", "--json")
    (answer,), encoded = json.loads(out), tokenizer.encode("where is it", "the value of the file")
    batch = Batch(np.array([encoded.ids]), np.ones((1, len(encoded)), bool), np.array([encoded.type_ids]))
    logits = hub.read(path)(batch, Pass(Needs.of(logits=True))).logits.array.reshape(-1, 2)
    places = [k for k, part in enumerate(encoded.sequence_ids) if part == 1]
    best = max(logits[i, 0] + logits[j, 1] for i in places for j in places if i <= j)
    assert code == 0 and answer["score"] == pytest.approx(float(best), rel=1e-5)
    assert answer["answer"] in "the value of the file"
