import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinydistill.errors import Problem
from tinydistill.features import IGNORED
from tinydistill.tasks.metrics import accuracy, auc, f1, matthews, mean_and_error, paired_difference, span_f1, spans
from tinydistill.tasks.task import OfSequences, Task

few_scores = st.integers(-3, 3).map(lambda k: k / 4)                        # many ties
rows = st.lists(st.tuples(few_scores, st.integers(0, 1)), min_size=2, max_size=40).filter(
    lambda rows: len({label for _, label in rows}) == 2)


# ---------------------------------------------------------------- AUC

@given(rows)
def test_auc_is_the_share_of_pairs_in_the_right_order(rows):
    scores, labels = (np.array(column) for column in zip(*rows))
    wins = [1.0 if p > n else 0.5 if p == n else 0.0
            for p in scores[labels == 1] for n in scores[labels == 0]]
    assert auc(scores, labels) == pytest.approx(sum(wins) / len(wins), abs=1e-12)


@given(rows)
def test_auc_depends_on_order_only_and_turns_with_the_labels(rows):
    scores, labels = (np.array(column) for column in zip(*rows))
    assert auc(np.exp(3 * scores), labels) == auc(scores, labels)
    assert auc(-scores, labels) == pytest.approx(1 - auc(scores, labels), abs=1e-12)
    assert auc(scores, 1 - labels) == pytest.approx(1 - auc(scores, labels), abs=1e-12)


def test_auc_agrees_with_mann_and_whitney_on_large_samples():
    from scipy.stats import mannwhitneyu
    rng = np.random.default_rng(0)
    labels = (rng.random(5000) < 0.12).astype(int)
    scores = np.round(rng.normal(size=5000) + 0.7 * labels, 1)
    u = mannwhitneyu(scores[labels == 1], scores[labels == 0]).statistic
    assert auc(scores.astype(np.float32), labels) == pytest.approx(u / (labels.sum() * (1 - labels).sum()), abs=1e-12)


def test_auc_of_one_class_is_refused():
    with pytest.raises(ValueError, match="rows of label 1 with rows of label 0: got 2 and 0"):
        auc(np.array([0.1, 0.2]), np.array([1, 1]))


# ---------------------------------------------------------------- classes

def confusion(predicted, labels, classes):
    table = np.zeros((classes, classes))
    for p, label in zip(predicted, labels):
        table[label, p] += 1
    return table


def logits_for(predicted, classes):
    return np.eye(classes)[predicted] - 0.5


def test_accuracy_takes_the_first_of_equal_logits():
    logits = np.array([[0.0, 1.0], [2.0, 2.0], [3.0, -1.0], [0.0, 0.5]])
    assert accuracy(logits, np.array([1, 0, 1, 1])) == 0.75
    assert accuracy(logits, np.array([0, 1, 1, 0])) == 0.0


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=1, max_size=30))
def test_matthews_of_two_classes_is_the_formula_of_the_table(rows):
    predicted, labels = (np.array(column) for column in zip(*rows))
    (tn, fp), (fn, tp) = confusion(predicted, labels, 2)
    below = (tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)
    expected = (tp * tn - fp * fn) / math.sqrt(below) if below else 0.0
    assert matthews(logits_for(predicted, 2), labels) == pytest.approx(expected, abs=1e-12)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=30))
def test_matthews_of_four_classes_is_gorodkins_triple_sum(rows):
    predicted, labels = (np.array(column) for column in zip(*rows))
    c = confusion(predicted, labels, 4)
    above = sum(c[k, k] * c[m, n] - c[k, n] * c[m, k] for k in range(4) for m in range(4) for n in range(4))
    true = sum(c[k].sum() * c[[j for j in range(4) if j != k]].sum() for k in range(4))
    guess = sum(c[:, k].sum() * c[:, [j for j in range(4) if j != k]].sum() for k in range(4))
    expected = above / math.sqrt(true * guess) if true * guess else 0.0
    assert matthews(logits_for(predicted, 4), labels) == pytest.approx(expected, abs=1e-12)


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=30))
def test_f1_is_the_harmonic_mean_of_precision_and_recall(rows):
    predicted, labels = (np.array(column) for column in zip(*rows))
    c = confusion(predicted, labels, 3)
    precision, recall = (c[1, 1] / n if n else 0.0 for n in (c[:, 1].sum(), c[1].sum()))
    expected = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
    assert f1(logits_for(predicted, 3), labels) == pytest.approx(expected, abs=1e-12)


# ---------------------------------------------------------------- spans

@pytest.mark.parametrize("tags, expected", [
    ("O O", set()),
    ("B-a I-a O", {(0, 1, "a")}),
    ("O B-a", {(1, 1, "a")}),                                   # the end of the sentence ends a span
    ("B-a B-a", {(0, 0, "a"), (1, 1, "a")}),
    ("B-a I-b", {(0, 0, "a"), (1, 1, "b")}),
    ("I-a I-a", {(0, 1, "a")}),                                 # begun by I
    ("B-a O I-a", {(0, 0, "a"), (2, 2, "a")}),
    ("B-creative-work I-creative-work", {(0, 1, "creative-work")}),
])
def test_spans_by_hand(tags, expected):
    assert spans(tags.split()) == expected


@given(st.lists(st.tuples(st.integers(1, 3), st.sampled_from("ab"), st.integers(0, 2)), max_size=6))
def test_spans_of_well_formed_tags_are_those_that_were_written(parts):
    tags, expected = [], set()
    for length, kind, outside in parts:
        expected.add((len(tags), len(tags) + length - 1, kind))
        tags += [f"B-{kind}"] + [f"I-{kind}"] * (length - 1) + ["O"] * outside
    assert spans(tags) == expected


NAMES = ("B-a", "I-a", "B-b", "I-b", "O")


def test_span_f1_by_hand():
    """True: two spans. Predicted: one of them, and the other a word too long."""
    true, predicted = np.array([0, 1, 4, 2, 4]), np.array([0, 1, 4, 2, 3])
    assert span_f1(NAMES, logits_for(predicted, 5), true, np.zeros(5, int)) == 0.5
    assert span_f1(NAMES, logits_for(true, 5), true, np.zeros(5, int)) == 1.0
    nothing = np.full(5, 4)
    assert span_f1(NAMES, logits_for(nothing, 5), nothing, np.zeros(5, int)) == 0.0


def test_spans_do_not_reach_over_the_end_of_a_sentence():
    """B-a | I-a: two spans of one word in two sentences, one span of two words in one."""
    true, predicted = np.array([0, 0]), np.array([0, 1])
    assert span_f1(NAMES, logits_for(predicted, 5), true, np.array([0, 1])) == 1.0
    assert span_f1(NAMES, logits_for(predicted, 5), true, np.array([0, 0])) == 0.0
    true, predicted = np.array([0, 1, 0]), np.array([0, 1, 1])
    assert span_f1(NAMES, logits_for(predicted, 5), true, np.array([0, 0, 1])) == 1.0


# ---------------------------------------------------------------- over seeds

def test_mean_and_error_by_hand():
    mean, error = mean_and_error([1.0, 2.0, 3.0, 6.0])
    assert mean == 3.0
    assert error == pytest.approx(math.sqrt((4 + 1 + 0 + 9) / 3 / 4))
    mean, error = mean_and_error([0.5])
    assert mean == 0.5 and math.isnan(error)


def test_paired_difference_is_students_interval():
    ours, theirs = [0.70, 0.69, 0.72, 0.68, 0.71], [0.60, 0.61, 0.59, 0.60, 0.62]
    d = np.subtract(ours, theirs)
    half = 2.776445105 * d.std(ddof=1) / math.sqrt(5)                       # t of 4 degrees of freedom, from a table
    assert paired_difference(ours, theirs) == pytest.approx((d.mean(), d.mean() - half, d.mean() + half), rel=1e-9)
    from scipy.stats import ttest_rel
    low, high = ttest_rel(ours, theirs).confidence_interval(0.99)
    assert paired_difference(ours, theirs, confidence=0.99)[1:] == pytest.approx((low, high), rel=1e-9)


def test_the_interval_covers_as_often_as_it_says():
    runs = np.random.default_rng(5).normal(1.0, 2.0, (4000, 4))
    covered = sum(low <= 1.0 <= high for _, low, high in (paired_difference(r, np.zeros(4)) for r in runs))
    assert abs(covered / 4000 - 0.95) < 5 * math.sqrt(0.95 * 0.05 / 4000)


@pytest.mark.parametrize("ours, theirs", [([1.0], [2.0]), ([1.0, 2.0], [1.0]), ([], [])])
def test_runs_that_do_not_pair_up_are_refused(ours, theirs):
    with pytest.raises(ValueError, match=f"at least two pairs of runs: got {len(ours)} and {len(theirs)}"):
        paired_difference(ours, theirs)


# ---------------------------------------------------------------- Task.score

TASK = Task(name="toy", what="", source="", kind="token", labels=("a", "b"), load=None,
            metrics={"accuracy": accuracy, "auc": lambda logits, labels: auc(logits[:, 1], labels)})


def test_score_pools_sequences_and_skips_what_is_ignored():
    logits = [np.array([[9.0, 9.0], [0.0, 2.0], [1.0, 0.0]]), np.array([[0.0, 1.0], [np.nan, 0.0]])]
    labels = [np.array([IGNORED, 1, 0]), np.array([0, IGNORED])]
    assert TASK.score(logits, labels) == {"accuracy": pytest.approx(2 / 3), "auc": 1.0}
    padded = np.array([[[9.0, 9.0], [0.0, 2.0], [1.0, 0.0]], [[0.0, 1.0], [np.nan, 0.0], [0.0, 0.0]]])
    assert TASK.score(padded, np.array([[IGNORED, 1, 0], [0, IGNORED, IGNORED]])) == TASK.score(logits, labels)
    assert list(TASK.score(logits, labels)) == ["accuracy", "auc"] and TASK.metric == "accuracy"


@pytest.mark.parametrize("logits, labels, message", [
    (np.zeros((3, 4)), np.zeros(3, int), r"toy needs 2 logits for each label: logits \(3, 4\), labels \(3,\)"),
    (np.zeros((3, 2)), np.zeros(2, int), r"toy needs 2 logits for each label: logits \(3, 2\), labels \(2,\)"),
    (np.zeros((1, 2)), np.array([IGNORED]), "toy has nothing to score: no position has a label"),
    (np.array([[0.0, np.nan], [np.inf, 1.0]]), np.array([0, 1]), "toy cannot be scored: 2 logits are not finite"),
])
def test_score_refuses_what_it_cannot_score(logits, labels, message):
    with pytest.raises(Problem, match=message):
        TASK.score(logits, labels)


def test_a_metric_of_sequences_is_told_which_is_which():
    seen = []
    metric = OfSequences(lambda logits, labels, sequence: seen.append(sequence.tolist()) or 0.0)
    task = Task(name="toy", what="", source="", kind="token", labels=("a", "b"), load=None, metrics={"m": metric})
    task.score([np.zeros((3, 2)), np.zeros((1, 2)), np.zeros((2, 2))],
               [np.array([IGNORED, 1, 0]), np.array([IGNORED]), np.array([0, 1])])
    task.score(np.zeros((2, 2, 2)), np.array([[0, IGNORED], [1, 1]]))
    task.score(np.zeros((2, 2)), np.array([0, 1]))
    assert seen == [[0, 0, 2, 2], [0, 1, 1], [0, 0]]
