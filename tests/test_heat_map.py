"""Arrays as lines of text: which of their axes have words, how many digits a number has, what is left out."""

import re

import numpy as np
import pytest

from tinydistill.commands import heat_map

WORDS = heat_map.Words([["[CLS]", "a", "[SEP]"], ["[SEP]", "[PAD]", "[PAD]"]], [[True] * 3, [True, False, False]],
                       list("vwxyz"), [1, 4])


def shown(array, width=100):
    lines, notes = heat_map.lines(np.array(array), WORDS, width)
    return [line.rstrip() for line in lines], notes


def test_sentences_stand_side_by_side_under_their_words():
    lines, notes = shown([[[1.0, -2.0], [0.5, 0.0], [4.0, 0.25]], [[1.0, 1.0], [8.0, 9.0], [0.0, np.nan]]])
    assert lines == ["          0      1             0     1",
                     "[CLS]  1.00░ -2.00░   [SEP] 1.00░ 1.00░",
                     "    a  0.50░     0    [PAD] 8.00· 9.00·",
                     "[SEP]  4.00▒  0.25░   [PAD]    0·  nan·"] and notes == []
    assert shown([[1.0, 2.0, 3.0], [4.0, 0.0, 7.0]], width=24)[0] == [
        " [CLS]      a  [SEP]", "     1░     2▒     3▒", " [SEP]  [PAD]  [PAD]", "     4▓     0·     7·"]


def test_the_first_head_is_shown_and_what_is_left_out_is_said():
    x = np.arange(24.0).reshape(2, 4, 3)
    assert shown(x[:, :, None, :].repeat(2, 2))[1] == ["first of 4 shown"]
    assert shown(x[:, :1, None, :].repeat(2, 2))[1] == []
    assert shown(np.ones((20, 30)), width=40)[1] == ["first 12 of 20 rows shown", "first 9 of 30 columns shown"]
    assert len(shown(np.ones((20, 30)), width=40)[0]) == 13 and shown(np.ones((12, 9)), width=38)[1] == []


def test_axes_of_tokens_and_of_the_vocabulary_get_their_words():
    assert shown(np.eye(2, 5))[0] == ["      v  w  x  y  z", "    a 1█ 0  0  0  0", "[PAD] 0· 1· 0· 0· 0·"]
    assert shown(np.ones((2, 1)))[0] == ["    a 1█", "[PAD] 1·"]
    assert shown(np.ones((2, 2)))[0] == ["  0  1", "0 1█ 1█", "1 1█ 1█"]
    assert shown(np.ones((4, 3)))[0][0].split() == ["0", "1", "2"]      # as long as a sentence, but not of one
    assert " ".join(line.split()[0] for line in shown(np.ones((6, 2)))[0][1:]) == "[CLS] a [SEP] [SEP] [PAD] [PAD]"
    assert shown(np.array([True, False]))[0] == ["     a  [PAD]", "     1█     0·"]
    assert shown(np.arange(6))[0][0].split() == ["[CLS]", "a", "[SEP]", "[SEP]", "[PAD]", "[PAD]"]


@pytest.mark.parametrize("array, texts", [
    ([[0.123456, -1.5]], ["0.12", "-1.50"]), ([[1234.5, 1.0]], ["1234", "1"]), ([[3.0, 2.0]], ["3", "2"]),
    ([[1e-9, 0.0]], ["1.00e-09", "0"]), ([[0.0123456, 0.0]], ["0.0123", "0"]),
    ([[-np.inf, 0.5]], ["-inf", "0.5"]), ([[np.nan, 0.5]], ["nan", "0.5"]),
    ([[123456.0, 0.0]], ["1.23e+05", "0"]), ([[7, -100]], ["7", "-100"])])
def test_numbers_have_three_digits_or_fewer_where_these_say_all(array, texts):
    assert re.findall(r"[^\s░▒▓█]+", shown(array)[0][1]) == texts


@pytest.mark.parametrize("x, block", [(4.0, "█"), (3.1, "█"), (-3.0, "▓"), (2.0, "▒"), (1.0, "░"), (0.01, "░"),
                                      (0.0, "")])
def test_a_block_is_as_dark_as_its_number_is_large(x, block):
    assert re.sub("[^░▒▓█]", "", shown([[4.0, x]])[0][1]) == "█" + block


def test_colours_are_red_above_0_and_blue_below_and_none_in_padding():
    array = np.array([[[4.0, -4.0], [0.0, 1.0], [1.0, 1.0]], [[1.0, 1.0]] * 3])
    lines, _ = heat_map.lines(array, WORDS, 100, colour=True)
    shades = [re.findall(r"48;5;(\d+);", line) for line in lines]
    assert shades[:3] == [[], ["167", "68", "224", "224"], ["224"]] and len(shades[3]) == 2
    assert {len(re.sub(r"\033\[[0-9;]*m", "", line)) for line in lines} == {len(lines[0])}


def test_a_number_alone():
    assert [heat_map.number(np.array(x)) for x in (0.393703, 3, True)] == ["0.3937", "3", "1"]
