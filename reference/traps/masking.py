"""Masking: how it has been got wrong."""

import numpy as np

from tinydistill_reference.conventions import IGNORED
from tinydistill_reference.mistakes import computes, sets

ISSUES = "https://github.com/"
EASY = "the model learns from tokens that it can see"
MISMATCH = "the corrupted text is not the one that the recipe was tuned for"


def chosen_by_rate(ids, mask, special, selection, rate):
    return mask & ~special[ids] & (selection < rate)


def chosen_by_count(ids, mask, special, selection, rate, most, count=None, candidates=None):
    """The smallest draws of each row; count(mask, special of ids, rate, most): how many (B,)."""
    special = special[ids]
    candidates = mask & ~special if candidates is None else candidates(mask, special)
    count = (usual_count if count is None else count)(mask, special, rate, most)
    rank = np.argsort(np.argsort(np.where(candidates, selection, 2.0), axis=1), axis=1)
    return candidates & (rank < np.asarray(count)[:, None])


def usual_count(mask, special, rate, most):
    return np.minimum(most, np.maximum(1, np.rint(rate * mask.sum(1))))


def chosen_by_weight(ids, mask, weights, selection, rate, count=None, arrival=None, by_row=False):
    """The smallest arrivals of the batch, or of each row."""
    weight = np.where(mask, weights[ids], 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        time = (-np.log(selection) / weight) if arrival is None else arrival(selection, weight)
    time = np.where(weight > 0, time, np.inf)
    count = (usual_total if count is None else count)(mask, weight, rate)
    if by_row:
        count, rank = np.asarray(count)[:, None], np.argsort(np.argsort(time, axis=1), axis=1)
    else:
        rank = np.argsort(np.argsort(time, axis=None)).reshape(ids.shape)
    return (rank < count) & (weight > 0)


def usual_total(mask, weight, rate):
    return np.ceil(rate * mask.sum())


def become(ids, selected, kind, word, words, mask_id, mask_below=0.8, random=lambda kind: kind >= 0.9, draw=None):
    """Corrupted ids."""
    drawn = words[(word * len(words)).astype(int)] if draw is None else draw(ids, word, words)
    found = np.where(selected & (kind < mask_below), mask_id, ids)
    return np.where(selected & random(kind), drawn, found)


def answer(ids, selected, found, unselected=IGNORED):
    return {"ids": found, "labels": np.where(selected, ids, unselected)}


def another(ids, word, words):
    """A token other than the old one."""
    place = np.searchsorted(words, ids)
    place = np.where(words[np.minimum(place, len(words) - 1)] == ids, place, len(words))
    drawn = (word * (len(words) - (place < len(words)))).astype(int)
    return words[drawn + (drawn >= place)]


def nearly_all(ids, word, words):
    """The last token is never drawn."""
    return words[(word * (len(words) - 1)).astype(int)]


def of_the_batch(ids, word, words):
    """A token from anywhere in the batch."""
    return ids.ravel()[(word * ids.size).astype(int)]


class Rule:
    """One of the three rules: how it selects, and which words are random ones."""

    def __init__(self, name, chosen, told, words):
        self.name, self.chosen, self.told, self.words = f"masking.{name}", chosen, told, words

    def trap(self, flag, bug, effect, source, end=None, selection=None, **fates):
        """selection: keyword arguments for `chosen`, or another function in its place; fates: those of `become`;
        end(ids, selected, found, kind): what comes back."""
        def forward(ids, mask, selection_, kind, word, mask_id, **told):
            words = self.words(told[self.told])
            if callable(selection):
                selected = selection(ids, mask, selection=selection_, **told)
            else:
                selected = self.chosen(ids, mask, selection=selection_, **told, **(selection or {}))
            found = become(ids, selected, kind, word, words, mask_id, **fates)
            return answer(ids, selected, found) if end is None else end(ids, selected, found, kind)
        return computes(self.name, flag, bug, effect, source,
                        lambda selection, **arguments: forward(selection_=selection, **arguments))

    def common(self):
        """What can go wrong once the tokens are selected."""
        return (
            self.trap("always_mask", "every selected token becomes [MASK]",
                      "tokens in a task look unlike those in training",
                      "constructed", mask_below=2.0, random=lambda kind: kind > 2),
            self.trap("tenth_of_the_rest", "a tenth of the fifth that is not masked becomes random: 2 %", MISMATCH,
                      ISSUES + "huggingface/transformers/pull/17377", random=lambda kind: kind >= 0.98),
            self.trap("random_over_mask", "half of the selected become random, also those that were masked", MISMATCH,
                      "constructed", random=lambda kind: kind >= 0.5),
            self.trap("all_of_the_rest_random", "what is not masked becomes random", "no token is to be kept",
                      "constructed", random=lambda kind: kind >= 0.8),
            self.trap("random_is_another", "a random token is never the old one",
                      "a token that is wrong is always wrong",
                      ISSUES + "rohitg00/ai-engineering-from-scratch/pull/57", draw=another),
            self.trap("last_word_never", "an upper limit that is left out twice: the last token is never drawn",
                      "nearly none: one token of the vocabulary", "constructed", draw=nearly_all),
            self.trap("random_of_the_batch", "random tokens are those of the batch",
                      "frequent tokens are drawn more often", "constructed", draw=of_the_batch),
            self.trap("labels_everywhere", "every token has a label", EASY,
                      ISSUES + "huggingface/transformers/issues/4840",
                      lambda ids, selected, found, kind: {"ids": found, "labels": ids}),
            self.trap("labels_of_the_corrupted", "labels are taken after the tokens were overwritten",
                      "the labels are [MASK]", ISSUES + "ServiceNow/Fast-LLM/pull/253, of another loss",
                      lambda ids, selected, found, kind: answer(found, selected, found)),
            self.trap("labels_of_masked_only", "a label only where the token is [MASK]",
                      "what a token is, is never asked where it stands there",
                      ISSUES + "huggingface/transformers/issues/20797",
                      lambda ids, selected, found, kind: answer(ids, selected & (kind < 0.8), found)),
            self.trap("ignored_is_minus_one", "-1 where there is no label",
                      "a loss that ignores -100 counts all of them", ISSUES + "alexa/dialoglue/pull/19",
                      lambda ids, selected, found, kind: answer(ids, selected, found, -1)),
            self.trap("ignored_is_zero", "0 where there is no label", "the model learns to predict token 0",
                      ISSUES + "mead-ml/mead-baseline/pull/337",
                      lambda ids, selected, found, kind: answer(ids, selected, found, 0)),
        )


def of_all(told):
    return np.arange(len(told))


BERT = Rule("bert", chosen_by_rate, "special", lambda special: np.flatnonzero(~special))
COUNTED = Rule("counted", chosen_by_count, "special", of_all)
FREQUENCY = Rule("frequency", chosen_by_weight, "weights", of_all)
SPECIALS = "the model learns to guess [CLS] and [SEP], and reads texts without them"
TRAPS = BERT.common() + (
    BERT.trap("special_tokens_selected", "[CLS] and [SEP] are selected like words", SPECIALS,
              ISSUES + "huggingface/transformers/issues/1395",
              selection=lambda ids, mask, special, selection, rate: mask & (selection < rate)),
    BERT.trap("padding_selected", "padding is selected like words", EASY,
              ISSUES + "huggingface/transformers/issues/11155",
              selection=lambda ids, mask, special, selection, rate: (~special[ids] | ~mask) & (selection < rate)),
    BERT.trap("not_selected", "the complement: 85 % are selected", "nearly the whole text is hidden", "constructed",
              selection=lambda ids, mask, special, selection, rate: mask & ~special[ids] & (selection >= rate)),
    BERT.trap("rate_included", "selection <= rate", "nearly none: one draw of 65,536", "constructed",
              selection=lambda ids, mask, special, selection, rate: mask & ~special[ids] & (selection <= rate)),
    BERT.trap("rate_times_kinds", "15 % become [MASK], others are selected beside them",
              "more tokens have labels than the recipe says",
              "constructed", selection=lambda ids, mask, special, selection,
              rate: mask & ~special[ids] & (selection < rate / 0.8)),
    sets("masking.bert", "random_is_special", "a random token may be a special one", "a few texts with a second [SEP]",
         ISSUES + "CompEpigen/methylbert/issues/28", words="all"),
) + COUNTED.common() + (
    COUNTED.trap("special_tokens_selected", "[CLS] and [SEP] are selected like words", SPECIALS, "constructed",
                 selection={"candidates": lambda mask, special: mask}),
    COUNTED.trap("padding_selected", "padding is selected like words", EASY, "constructed",
                 selection={"candidates": lambda mask, special: ~special}),
    COUNTED.trap("special_tokens_not_counted", "the share of the words, without [CLS] and [SEP]",
                 "fewer tokens are selected", ISSUES + "lonePatient/albert_pytorch/issues/65, which asks for it",
                 selection={"count": lambda mask, special, rate,
                            most: usual_count(mask & ~special, special, rate, most)}),
    COUNTED.trap("padding_counted", "the share of the row's length with its padding",
                 "short texts are hidden nearly whole",
                 "constructed", selection={"count": lambda mask, special, rate, most:
                                           usual_count(np.ones_like(mask), special, rate, most)}),
    COUNTED.trap("none_is_enough", "no token at all where the share is below one half",
                 "TinyBERT's rate of 0 selects nothing",
                 "constructed", selection={"count": lambda mask, special, rate, most:
                                           np.minimum(most, np.rint(rate * mask.sum(1)))}),
    COUNTED.trap("rounded_down", "int(rate n)", "fewer tokens are selected",
                 "microsoft/unilm s2s-ft, of its own masking",
                 selection={"count": lambda mask, special, rate,
                            most: np.minimum(most, np.maximum(1, rate * mask.sum(1) // 1))}),
    COUNTED.trap("half_rounded_up", "floor(rate n + 1/2)", "a half is one more: Python 2's round", "constructed",
                 selection={"count": lambda mask, special, rate, most:
                            np.minimum(most, np.maximum(1, np.floor(rate * mask.sum(1) + 0.5)))}),
    COUNTED.trap("no_most", "no upper limit", "long texts have more labels than the published runs",
                 ISSUES + "google-research/albert/issues/51, which asks about it",
                 selection={"count": lambda mask, special, rate, most: usual_count(mask, special, rate, 10 ** 6)}),
    COUNTED.trap("each_for_itself", "every token is selected with the rate", "rows without a label", "constructed",
                 selection=lambda ids, mask, special, selection, rate,
                 most: chosen_by_rate(ids, mask, special, selection, rate)),
) + FREQUENCY.common() + (
    FREQUENCY.trap("each_row_for_itself", "a share of each row in the place of the whole batch",
                   "rows of frequent words are hidden more than they should", "constructed",
                   selection={"count": lambda mask, weight, rate: np.ceil(rate * mask.sum(1)), "by_row": True}),
    FREQUENCY.trap("rounded_down", "floor(rate n)", "one token less", "constructed",
                   selection={"count": lambda mask, weight, rate: np.floor(rate * mask.sum())}),
    FREQUENCY.trap("padding_counted", "the share of all places, padding among them",
                   "short texts are hidden nearly whole",
                   "constructed", selection={"count": lambda mask, weight, rate: np.ceil(rate * mask.size)}),
    FREQUENCY.trap("special_tokens_not_counted", "the share of the words, without [CLS] and [SEP]",
                   "fewer tokens are selected",
                   "constructed", selection={"count": lambda mask, weight, rate: np.ceil(rate * (weight > 0).sum())}),
    FREQUENCY.trap("frequent_ones_more", "arrivals times the weight: rare words are hidden less",
                   "the reverse of what is wanted",
                   "constructed", selection={"arrival": lambda u, weight: -np.log(u) * weight}),
    FREQUENCY.trap("all_alike", "the weights are not used", "BERT's masking", "constructed",
                   selection={"arrival": lambda u, weight: -np.log(u)}),
    FREQUENCY.trap("no_logarithm", "u / weight: no exponential draw", "chances that are not like the weights",
                   "constructed", selection={"arrival": lambda u, weight: u / weight}),
)
