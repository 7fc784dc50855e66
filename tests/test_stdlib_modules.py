import re
from collections import Counter

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tinydistill.data import stdlib
from tinydistill.data.near_duplicates import canonical, families, places
from tinydistill.data.stdlib import Document
from tinydistill.errors import WrongUsage
from tinydistill.tasks import stdlib_modules, stdlib_replaced
from tinydistill.tasks.stdlib_modules import PACKAGES, clean, floors, naive_bayes
from tinydistill.tasks.task import Examples


@pytest.fixture(scope="module")
def documents():
    return stdlib.documents()


@pytest.fixture(scope="module")
def examples(documents):
    return stdlib_modules.split(documents)


# ---------------------------------------------------------------- near-duplicates

def test_canonical_form_is_the_plain_words():
    assert canonical('Return the "Value" of self.x, i.e. (see RFC 2822) close() fooBar a_b.') == [
        "return", "the", "value", "of", "see"]
    assert canonical("Return the [name], or 7 items.") == ["return", "the", "name", "or", "items"]
    assert canonical("x_1 = f(X) + g(Y)") == ["x_1", "=", "f(x)", "+", "g(y)"]              # code: all of it
    assert canonical("if x_1: return x_2") == ["if", "x_1:", "return", "x_2"]


words = st.lists(st.sampled_from("alpha beta gamma delta epsilon zeta eta theta iota kappa".split()), min_size=5,
                 max_size=15)


@example("one two three four five six seven eight nine ten eleven".split(), 5, "exchange")   # spares no run of six
@given(words, st.integers(0, 14), st.sampled_from(["put in", "leave out", "exchange"]))
def test_one_word_more_or_less_or_other_is_the_same_family(words, k, edit):
    k %= len(words)
    edited = words[:k] + ([] if edit == "leave out" else ["other"]) + words[k + (edit != "put in"):]
    family, same, far = families([" ".join(words), " ".join(edited).upper().capitalize() + " 7.", "not at all like it"])
    assert family == same != far


@given(st.lists(st.integers(0, 400), min_size=6, max_size=6), st.integers(0, 20), st.integers(0, 20))
def test_six_words_in_common_are_the_same_family(run, before, after):
    run = [f"w{'abcdefghij'[n % 10]}{'abcdefghij'[n // 10 % 10]}{'abcdefghij'[n // 100]}" for n in run]
    a = ["left"] * before + run + ["right"] * after
    b = ["under"] * after + run + ["over"] * before
    assert len(set(families([" ".join(a), " ".join(b)]))) == 1


def test_families_join_through_a_third_and_five_words_do_not_join():
    a, b = "one two three four five six seven eight", "nine ten eleven twelve thirteen fourteen fifteen sixteen"
    bridge = "three four five six seven eight nine ten eleven twelve thirteen fourteen"
    assert len(set(families([a, b]))) == 2
    assert len(set(families([a, b, bridge]))) == 1
    assert len(set(families(["red one two three four five blue green", "cat dog one two three four five fish"]))) == 2


def test_places_are_fixed_numbers_whatever_the_order_and_the_company():
    assert places(["Return the value of the field."]).tolist() == [0.4151609426539977]        # BLAKE2b
    texts = [f"text {'abcdefgh'[i % 8]}{'abcdefgh'[i // 8]} about {'ijklmnop'[i % 7]} thing" for i in range(60)]
    order = np.random.default_rng(1).permutation(60)
    assert np.array_equal(places([texts[i] for i in order]), places(texts)[order])


def test_places_are_uniform(documents):
    place = np.unique(stdlib_modules.document_places(documents))
    assert len(place) > 5000 and 0 <= place.min() and place.max() < 1
    distance = np.abs(np.sort(place) - np.arange(len(place)) / len(place)).max()
    assert distance < 2.5 / np.sqrt(len(place))                             # Kolmogorov: p = 7e-6


# ---------------------------------------------------------------- the task

def test_names_are_removed():
    text = ("An email.message for HTTPServer, a DOMError, urllib's Asyncio: XML-RPC and e.g. logging_x, "
            "fooBar to os.path but not a message, RFC 2822 or close() of a URL.")
    assert clean(text) == "An for a and to but not a message, RFC 2822 or close() of a URL."


def test_no_name_is_left_and_every_package_is_there(examples):
    for part in examples.values():
        for text in part.texts:
            assert len(re.findall("[A-Za-z]{2,}", text)) >= 5
            assert not any(name in text.lower() for name in PACKAGES) and "_" not in text
    rows = sum(np.bincount(part.labels, minlength=len(PACKAGES)) for part in examples.values())
    assert rows.min() >= 100 and rows.max() < 0.3 * rows.sum()
    assert len(examples["test"]) > 400 and len(examples["dev"]) > 150 and len(examples["train"]) > 1500


def test_labels_are_the_packages(documents, examples):
    sources = {}
    for document in documents:
        sources.setdefault(clean(document.text), set()).add(document.module.split(".")[0])
    for part in examples.values():
        assert all(PACKAGES[label] in sources[text] for text, label in zip(part.texts, part.labels))


def one_edit(a, b):
    """Whether two lists of words differ by one word at most, put in, left out or exchanged."""
    if len(a) > len(b):
        a, b = b, a
    k = next((k for k in range(len(a)) if a[k] != b[k]), len(a))
    return a[k + (len(a) == len(b)):] == b[k + 1:] and len(b) - len(a) <= 1


def assert_no_near_duplicates(*parts):
    """No two parts share six words in a row or, from four words up, differ by one; found without `families`."""
    forms = [[canonical(clean(text)) for text in part] for part in parts]
    runs = [{" ".join(w[k:k + 6]) for w in part for k in range(len(w) - 5)} for part in forms]
    for i in range(len(parts)):
        for j in range(i):
            assert not runs[i] & runs[j]
    ends = {}                                       # one edit spares the first two words, or the last two
    for i, part in enumerate(forms):
        for form in {tuple(form) for form in part}:
            if len(form) >= 4:
                ends.setdefault(("first", *form[:2]), []).append((i, form))
                ends.setdefault(("last", *form[-2:]), []).append((i, form))
    compared = 0
    for candidates in ends.values():
        for n, (i, a) in enumerate(candidates):
            for j, b in candidates[:n]:
                if i != j and abs(len(a) - len(b)) <= 1:
                    compared += 1
                    assert not one_edit(a, b), (a, b)
    assert compared > 1000                          # the search did look at pairs


@pytest.mark.parametrize("planted", ["{} seldom seen again", "and so {} seldom ever seen again yesterday by anyone"])
def test_the_check_for_near_duplicates_finds_one(planted):
    with pytest.raises(AssertionError, match="seldom"):
        assert_no_near_duplicates(["nothing like it at all", planted.format("was")], [planted.format("is")])


def test_near_duplicates_are_in_one_part(examples):
    assert_no_near_duplicates(*(part.texts for part in examples.values()))


def test_dev_and_test_are_not_in_the_pretraining_corpus(documents, examples):
    corpus = stdlib_replaced.split(documents).pretraining
    assert_no_near_duplicates(corpus, examples["dev"].texts + examples["test"].texts)


def test_the_split_does_not_depend_on_the_order_of_the_documents(documents, examples):
    order = np.random.default_rng(2).permutation(len(documents))
    shuffled = stdlib_modules.split([documents[i] for i in order])
    for name, part in examples.items():
        assert Counter(shuffled[name].texts) == Counter(part.texts)


def test_a_data_folder_is_refused():
    with pytest.raises(WrongUsage, match=r"stdlib-modules comes with Python: leave the data folder out \(got here\)"):
        stdlib_modules.load("here")


# ---------------------------------------------------------------- floors

def test_naive_bayes_by_hand():
    train = Examples(["red red ball", "blue sky", "red"], np.array([0, 1, 0]))
    got = naive_bayes(train, ["red sky! unseen"], smoothing=0.5)[0]
    # classes 0 and 1 have 4 and 2 words, and the vocabulary has 4, of half a count each: red, ball, blue, sky
    expected = [np.log(2.5 * (3.5 / 6) * (0.5 / 6)), np.log(1.5 * (0.5 / 4) * (1.5 / 4))]
    assert got[:2] == pytest.approx(expected)


def test_floors_of_a_task_whose_answer_is_known():
    train = Examples(["red ball", "red cube", "blue sky", "red cone"], np.array([4, 4, 1, 4]))
    test = Examples(["red", "blue", "blue", "blue"], np.array([4, 1, 1, 4]))
    assert floors({"train": train, "dev": train, "test": test}) == {"majority": 0.5, "bag of words": 0.75}
    assert floors({"train": train, "dev": train, "test": test}, "dev") == {"majority": 0.75, "bag of words": 1.0}


def test_a_bag_of_words_goes_far(examples):
    floor = floors(examples)
    assert floor["majority"] < 0.3 < 0.6 < floor["bag of words"] < 0.95


def test_the_headline_is_accuracy(examples):
    labels = examples["dev"].labels
    score = stdlib_modules.TASK.score(np.eye(9)[np.where(labels == 0, 1, labels)], labels)
    assert list(score) == ["accuracy", "matthews"] and score["accuracy"] == np.mean(labels != 0)
    assert 0.6 < score["matthews"] < 1
