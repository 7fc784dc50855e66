"""UniLM's attention masks: how they have been got wrong."""

import numpy as np

from tinydistill_reference.mistakes import computes, sets

ISSUES = "https://github.com/"
CHEATS = "the loss falls at once, and writing fails: what is to be predicted was seen"
BLIND = "the model predicts from less than it has when it writes"
PADDING = "what stands in the padding changes every output"


def up_to(n, more=0):
    return np.tril(np.ones((n, n), bool), more)


def one(name, flag, bug, effect, source, sees):
    """sees(mask): (B, T, T)."""
    return computes(f"unilm_mask.{name}", flag, bug, effect, source,
                    lambda mask: sees(mask) & np.ones((1, mask.shape[1], 1), bool))


def unseeing(equation):
    return sets(equation, "padded_rows_see_nothing", "padded rows see nothing",
                "a softmax over nothing: NaN in the padding, which gradients carry on",
                ISSUES + "pytorch/pytorch/issues/41508", rows="real")


def keys(mask):
    return mask[:, None, :]


def rows(mask):
    return mask[:, :, None]


def seen(source, target, source_source=None, source_target=None, target_source=None, target_target=None):
    """The four blocks; those that are not given are right."""
    (B, S), N = source.shape, target.shape[1]
    blocks = [[keys(source) if source_source is None else source_source,
               np.zeros((1, S, N), bool) if source_target is None else source_target],
              [keys(source) if target_source is None else target_source,
               rows(target) & keys(target) & up_to(N) if target_target is None else target_target]]
    return np.concatenate([
        np.concatenate([np.broadcast_to(block, (B, n, m)) for m, block in zip((S, N), line)], axis=2)
        for n, line in zip((S, N), blocks)], axis=1)


def two(flag, bug, effect, source, **blocks):
    """blocks: f(source, target) for those that differ."""
    return computes("unilm_mask.seq2seq", flag, bug, effect, source,
                    lambda source, target: seen(source, target, **{n: f(source, target) for n, f in blocks.items()}))


def pseudo(flag, bug, effect, source, before=None, itself=None, of_source=None, of_target=None, front=None):
    """before, itself: f(target) -> what a pseudo token sees of target and pseudo tokens; of_source(source): of sources;
    of_target(target): what a target token sees of pseudo tokens; front(source, target): the mask without these."""
    def forward(source, target):
        (B, S), N = source.shape, target.shape[1]
        real = rows(target) & keys(target)
        first = seen(source, target) if front is None else front(source, target)
        behind = np.zeros((B, S + N, N), bool)
        behind[:, S:] = False if of_target is None else of_target(target)
        third = [keys(source) if of_source is None else of_source(source),
                 real & up_to(N, -1) if before is None else before(target),
                 real & np.eye(N, dtype=bool) if itself is None else itself(target)]
        third = [np.broadcast_to(block, (B, N, n)) for block, n in zip(third, (S, N, N))]
        return np.concatenate([np.concatenate([first, behind], axis=2), np.concatenate(third, axis=2)], axis=1)
    return computes("pseudo_mask", flag, bug, effect, source, forward)


def real(target):
    return rows(target) & keys(target)


BIDIRECTIONAL = (
    one("bidirectional", "padding_seen", "padding is seen like words", PADDING, "constructed",
        lambda mask: np.ones((len(mask), 1, mask.shape[1]), bool)),
    one("bidirectional", "queries_masked", "padded rows are masked in the place of padded keys", PADDING,
        "constructed", rows),
    one("bidirectional", "causal", "what comes after a token is hidden", BLIND,
        ISSUES + "huggingface/transformers/issues/46077", lambda mask: keys(mask) & up_to(mask.shape[1])),
    one("bidirectional", "inverted", "True where nothing may be seen", "a model that reads only padding", "constructed",
        lambda mask: ~keys(mask)),
    one("bidirectional", "not_itself", "a token does not see itself", BLIND, "constructed",
        lambda mask: keys(mask) & ~np.eye(mask.shape[1], dtype=bool)),
    unseeing("unilm_mask.bidirectional"),
)
LEFT_TO_RIGHT = (
    one("left_to_right", "transposed", "a token sees what is after it", CHEATS, "constructed",
        lambda mask: keys(mask) & up_to(mask.shape[1]).T),
    one("left_to_right", "sees_the_next", "one diagonal too many: a token sees the next", CHEATS,
        ISSUES + "RVC-Boss/GPT-SoVITS/issues/965, which suspects it",
        lambda mask: keys(mask) & up_to(mask.shape[1], 1)),
    one("left_to_right", "not_itself", "one diagonal too few: a token does not see itself", BLIND,
        ISSUES + "pytorch/tutorials/issues/2250, which asks for it",
        lambda mask: keys(mask) & up_to(mask.shape[1], -1)),
    one("left_to_right", "not_causal", "no token is hidden", CHEATS, ISSUES + "paiml/entrenar/issues/310", keys),
    one("left_to_right", "inverted", "True where nothing may be seen", "a model that reads the future only",
        ISSUES + "hkproj/pytorch-transformer/issues/19", lambda mask: keys(mask) & ~up_to(mask.shape[1])),
    one("left_to_right", "padding_or_past", "or in the place of and: past padding and future words are seen", CHEATS,
        ISSUES + "jadore801120/attention-is-all-you-need-pytorch/issues/217, which asks for it",
        lambda mask: keys(mask) | up_to(mask.shape[1])),
    one("left_to_right", "padding_seen", "padding is seen like words", PADDING, "constructed",
        lambda mask: up_to(mask.shape[1]) & np.ones((len(mask), 1, 1), bool)),
    unseeing("unilm_mask.left_to_right"),
)
SEQ2SEQ = (
    two("source_sees_target", "the source sees the target", CHEATS, "constructed", source_target=lambda s, t: keys(t)),
    two("source_left_to_right", "the source is read from the left, like the target", BLIND, "constructed",
        source_source=lambda s, t: keys(s) & up_to(s.shape[1])),
    two("target_sees_target", "the target is read in both directions", CHEATS, "constructed", target_target=lambda s,
        t: real(t)),
    two("target_transposed", "a target token sees what is after it", CHEATS, "constructed",
        target_target=lambda s, t: real(t) & up_to(t.shape[1]).T),
    two("target_sees_the_next", "a target token sees the next one", CHEATS, "constructed",
        target_target=lambda s, t: real(t) & up_to(t.shape[1], 1)),
    two("target_not_itself", "a target token does not see itself", BLIND, "constructed",
        target_target=lambda s, t: real(t) & up_to(t.shape[1], -1)),
    two("target_without_source", "the target does not see the source", "a language model that ignores what it is asked",
        "constructed", target_source=lambda s, t: np.zeros((len(s), 1, s.shape[1]), bool)),
    two("source_padding_seen", "the padding between source and target is seen", PADDING,
        ISSUES + "huggingface/transformers/issues/9366, whose answer leaves it to the reader",
        source_source=lambda s, t: np.ones((len(s), 1, s.shape[1]), bool),
        target_source=lambda s, t: np.ones((len(s), 1, s.shape[1]), bool)),
    two("padded_targets_see_targets", "padded rows see the target", "nothing: padded rows are read by nobody",
        "constructed", target_target=lambda s, t: keys(t) & up_to(t.shape[1])),
    unseeing("unilm_mask.seq2seq"),
)
PSEUDO = (
    pseudo("sees_its_token", "a pseudo token sees the token in whose place it stands", CHEATS, "constructed",
           before=lambda t: real(t) & up_to(t.shape[1])),
    pseudo("sees_pseudo_before", "a pseudo token sees the pseudo tokens before it, too",
           "they say nothing, and are not there in writing",
           "constructed", itself=lambda t: real(t) & up_to(t.shape[1])),
    pseudo("sees_pseudo_only", "a pseudo token sees pseudo tokens in the place of the target's", BLIND, "constructed",
           before=lambda t: np.zeros((len(t), 1, t.shape[1]), bool), itself=lambda t: real(t) & up_to(t.shape[1])),
    pseudo("not_itself", "a pseudo token does not see itself", "it does not know its own place", "constructed",
           itself=lambda t: np.zeros((len(t), 1, t.shape[1]), bool)),
    pseudo("target_sees_pseudo", "a target token sees the pseudo tokens before it",
           "states that do not exist in writing", "constructed", of_target=lambda t: real(t) & up_to(t.shape[1])),
    pseudo("without_source", "a pseudo token does not see the source", "a language model that ignores what it is asked",
           "constructed", of_source=lambda s: np.zeros((len(s), 1, s.shape[1]), bool)),
    pseudo("sees_all_targets", "a pseudo token sees the whole target but its token", CHEATS, "constructed",
           before=lambda t: real(t) & ~np.eye(t.shape[1], dtype=bool)),
    pseudo("sees_targets_after", "a pseudo token sees the target after its token", CHEATS, "constructed",
           before=lambda t: real(t) & up_to(t.shape[1], -1).swapaxes(0, 1)),
    pseudo("source_sees_target", "the source sees the target", CHEATS, "constructed",
           front=lambda s, t: seen(s, t, source_target=keys(t))),
    unseeing("pseudo_mask"),
)
TRAPS = BIDIRECTIONAL + LEFT_TO_RIGHT + SEQ2SEQ + PSEUDO
