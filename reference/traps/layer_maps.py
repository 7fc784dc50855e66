"""Layer maps: how they have been got wrong."""

import numpy as np

from tinydistill_reference.mistakes import computes

HIDDEN = "https://github.com/huggingface/transformers/issues/1699, which asks for the thirteenth of twelve layers"
TINYBERT = "https://github.com/huawei-noah/Pretrained-Language-Model/issues/166"
SPREAD = "https://github.com/arcee-ai/DistillKit/issues/34"
DISTILBERT = "https://github.com/huggingface/transformers/issues/3585"
TOO_EARLY = "the student imitates layers that know less"
TOO_LATE = "one layer too late, and the last pair does not exist"


def wrong(name, flag, bug, effect, source, g, first=0, short=0):
    """g(m, M, L): the teacher's layer for an array of student layers first ... M - short - 1, all from 0."""
    def forward(student_layers, teacher_layers):
        m = np.arange(first, student_layers - short)
        return np.stack([m, np.broadcast_to(g(m, student_layers, teacher_layers), m.shape)], axis=1).astype(np.int64)
    return computes(f"layer_map.{name}", flag, bug, effect, source, forward)


def from_one(name, g, short=0):
    """The right pairs, counted from 1."""
    def forward(student_layers, teacher_layers):
        m = np.arange(student_layers - short)
        return np.stack([m, g(m, student_layers, teacher_layers)], axis=1) + 1
    return computes(f"layer_map.{name}", "counted_from_one", "layers counted from 1 where a list is counted from 0",
                    TOO_LATE, HIDDEN, forward)


def one_pair(name, flag, bug, effect, source, pair):
    return computes(f"layer_map.{name}", flag, bug, effect, source,
                    lambda student_layers, teacher_layers: np.array([pair(student_layers, teacher_layers)]))


def ends(m, M, L):
    return np.round(m * (L - 1) / max(1, M - 1))


LAST = (
    one_pair("last", "counted_from_one", "layers counted from 1 where a list is counted from 0", TOO_LATE, HIDDEN,
             lambda M, L: (M, L)),
    one_pair("last", "one_before_the_last", "the last entry but one of each", TOO_EARLY,
             "constructed", lambda M, L: (M - 2, L - 2)),
    one_pair("last", "same_number", "the teacher's layer of the student's number", TOO_EARLY, "constructed",
             lambda M, L: (M - 1, min(M, L) - 1)),
    one_pair("last", "counted_from_the_end", "-1 in the place of the last layer's number",
             "right where a list is read, wrong where numbers are compared", "constructed", lambda M, L: (-1, -1)),
)
UNIFORM = (
    from_one("uniform", lambda m, M, L: (m + 1) * (L // M) - 1),
    wrong("uniform", "first_of_each_block",
          "m L/M with m from 0: the map of the list of hidden states, for attention maps",
          TOO_EARLY, TINYBERT, lambda m, M, L: m * (L // M)),
    wrong("uniform", "one_layer_late", "(m + 1) L/M without the 1 for a count from 0", TOO_LATE, TINYBERT,
          lambda m, M, L: (m + 1) * (L // M)),
    wrong("uniform", "both_ends", "m (L - 1)/(M - 1), rounded", "layers at uneven steps, the first beside the first",
          SPREAD, ends),
    wrong("uniform", "top", "the teacher's last layers",
          "the student's first layer imitates what is far from the words", "constructed", lambda m, M, L: m + L - M),
    wrong("uniform", "upside_down", "the student's first layer beside the teacher's last",
          "no layer can do what it is asked", "constructed", lambda m, M, L: (M - m) * (L // M) - 1),
    wrong("uniform", "last_left_out", "PKD's map", "the last layer has no target", "constructed",
          lambda m, M, L: (m + 1) * (L // M) - 1, short=1),
)
TOP = (
    from_one("top", lambda m, M, L: m + L - M),
    wrong("top", "bottom", "the teacher's first layers", TOO_EARLY, "constructed", lambda m, M, L: m),
    wrong("top", "one_layer_early", "m + L - M - 1", TOO_EARLY, "constructed", lambda m, M, L: m + L - M - 1),
    wrong("top", "upside_down", "the student's first layer beside the teacher's last",
          "no layer can do what it is asked", "constructed", lambda m, M, L: L - 1 - m),
)
BOTTOM = (
    from_one("bottom", lambda m, M, L: m),
    wrong("bottom", "top", "the teacher's last layers", "another ablation", "constructed", lambda m, M, L: m + L - M),
    wrong("bottom", "uniform", "blocks of L // M", "another ablation", "constructed",
          lambda m, M, L: (m + 1) * (L // M) - 1),
    wrong("bottom", "embeddings_first", "the output of the embeddings beside the student's first layer", TOO_EARLY,
          "https://github.com/NickL77/BaldEagle/issues/18, which asks about it", lambda m, M, L: m - 1),
)
ONE_TO_ONE = (
    from_one("one_to_one", lambda m, M, L: m),
    wrong("one_to_one", "last_left_out", "M - 1 pairs", "the last layer has no target", "constructed",
          lambda m, M, L: m, short=1),
    wrong("one_to_one", "upside_down", "the student's first layer beside the teacher's last",
          "no layer can do what it is asked", "constructed", lambda m, M, L: L - 1 - m),
    wrong("one_to_one", "one_layer_early", "each layer beside the input of the teacher's", TOO_EARLY,
          "https://github.com/goombalab/phi-mamba/issues/4, which asks about it", lambda m, M, L: m - 1),
)
SKIP = (
    from_one("skip", lambda m, M, L: (m + 1) * (L // M) - 1, short=1),
    wrong("skip", "last_not_left_out", "M pairs, the last layers among them",
          "the last layer is compared, and its logits too", "constructed", lambda m, M, L: (m + 1) * (L // M) - 1),
    wrong("skip", "first_of_each_block", "m L/M with m from 0", TOO_EARLY, "constructed", lambda m, M, L: m * (L // M),
          short=1),
    wrong("skip", "patient_last", "PKD-Last: the layers before the teacher's last",
          "the other strategy: for a student of 3 layers the published script's default",
          "intersun/PKD-for-BERT-Model-Compression, default of fc_layer_idx", lambda m, M, L: m + L - M, short=1),
    wrong("skip", "both_ends", "m (L - 1)/(M - 1), rounded", "layers at uneven steps", SPREAD, ends, short=1),
    wrong("skip", "first_left_out", "the first pair is left out in the place of the last", "the last layer is compared",
          "constructed", lambda m, M, L: (m + 1) * (L // M) - 1, first=1),
)
PATIENT_LAST = (
    from_one("patient_last", lambda m, M, L: m + L - M, short=1),
    wrong("patient_last", "last_not_left_out", "M pairs, the last layers among them", "the last layer is compared",
          "constructed", lambda m, M, L: m + L - M),
    wrong("patient_last", "to_the_last", "the teacher's last M - 1 layers", "the teacher's last layer is compared",
          "constructed", lambda m, M, L: m + L - M + 1, short=1),
    wrong("patient_last", "skip", "PKD-Skip", "the other strategy", "constructed",
          lambda m, M, L: (m + 1) * (L // M) - 1, short=1),
)
MIDDLE = (
    one_pair("middle", "counted_from_one", "layers counted from 1 where a list is counted from 0", TOO_LATE, HIDDEN,
             lambda M, L: ((M + 1) // 2, (L + 1) // 2)),
    one_pair("middle", "upper_middle", "M // 2: of an even depth the upper of two", "a hint that is one layer too hard",
             "constructed", lambda M, L: (M // 2, L // 2)),
    one_pair("middle", "same_number", "the teacher's layer of the student's number", TOO_EARLY, "constructed",
             lambda M, L: ((M - 1) // 2, (M - 1) // 2)),
    one_pair("middle", "last", "the last layer of each", "the student cannot follow yet", "constructed",
             lambda M, L: (M - 1, L - 1)),
)
ALTERNATE = (
    wrong("alternate", "both_ends", "m (L - 1)/(M - 1), rounded, as the published script does",
          "another initialisation", DISTILBERT, ends),
    wrong("alternate", "last_of_each_block", "the last layer of each block", "another initialisation", "constructed",
          lambda m, M, L: (m + 1) * (L // M) - 1),
    wrong("alternate", "every_other", "2 m, whatever the depths are",
          "layers in the middle of a deep teacher are all there is", "constructed", lambda m, M, L: 2 * m),
    wrong("alternate", "bottom", "the first layers", "another initialisation: PKD's", "constructed", lambda m, M, L: m),
)
SPREAD_TRAPS = (
    wrong("spread", "one_of_two", "m L/M, as the paper says", "the teacher's last layer is not copied", DISTILBERT,
          lambda m, M, L: m * L // M),
    wrong("spread", "rounded_down", "m (L - 1) // (M - 1)", "6 in the place of 7 of twelve layers", "constructed",
          lambda m, M, L: m * (L - 1) // max(1, M - 1)),
    wrong("spread", "last_of_each_block", "the last layer of each block", "the first layer is not copied",
          "constructed", lambda m, M, L: (m + 1) * L // M - 1),
    wrong("spread", "bottom", "the first layers", "another initialisation: PKD's", "constructed", lambda m, M, L: m),
)
TRAPS = LAST + UNIFORM + TOP + BOTTOM + ONE_TO_ONE + SKIP + PATIENT_LAST + MIDDLE + ALTERNATE + SPREAD_TRAPS
