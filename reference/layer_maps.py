"""Layer maps: which teacher layer each student layer learns from, as pairs, layers counted from 0.

    of M student layers and L teacher layers; with layers counted from 1, as papers do:
        last            (M, L)                                  MiniLM
        uniform         g(m) = m L/M                            TinyBERT, Aguilar et al.: the last of each block of L/M
        top, bottom     g(m) = m + L - M, g(m) = m              TinyBERT's ablations
        one_to_one      g(m) = m, M = L                         MobileBERT
        skip            g(m) = m L/M, m < M                     PKD-Skip
        patient_last    g(m) = m + L - M, m < M                 PKD-Last
        middle          (ceil(M/2), ceil(L/2))                  FitNets
    and for the weights that a student starts with, DistilBERT's two, with layers counted from 0:
        alternate       g(m) = m L/M                            "one layer out of two", as its paper says
        spread          g(m) = m (L - 1) / (M - 1), rounded     {0, 2, 4, 7, 9, 11} of twelve, as its code has it

Traps
  - a list of hidden states that begins with the embeddings has one entry more: its entry l is the output of layer l
    counted from 1, while entry l of a list of attention maps is that of layer l counted from 0
  - PKD leaves both last layers out: its pairs are M - 1
"""

import numpy as np

from tinydistill_reference.conventions import need


def divided(student_layers, teacher_layers):
    """L/M."""
    need(teacher_layers % student_layers == 0, "a teacher's depth that is a multiple of the student's: "
         f"student {student_layers} layers, teacher {teacher_layers}")
    return teacher_layers // student_layers


def deeper(student_layers, teacher_layers):
    """L - M."""
    need(student_layers <= teacher_layers, "a teacher at least as deep as the student: "
         f"student {student_layers} layers, teacher {teacher_layers}")
    return teacher_layers - student_layers


def pairs(student_layers, g):
    """(M, 2): m, g(m), both counted from 1, as numbers from 0."""
    return np.array([(m - 1, g(m) - 1) for m in range(1, student_layers + 1)])


def without_the_last(found):
    need(len(found) > 1, "a student of at least 2 layers: PKD compares all layers but the last")
    return found[:-1]


def last(*, student_layers, teacher_layers):
    return np.array([(student_layers - 1, teacher_layers - 1)])


def uniform(*, student_layers, teacher_layers):
    block = divided(student_layers, teacher_layers)
    return pairs(student_layers, lambda m: m * block)


def top(*, student_layers, teacher_layers):
    more = deeper(student_layers, teacher_layers)
    return pairs(student_layers, lambda m: m + more)


def bottom(*, student_layers, teacher_layers):
    deeper(student_layers, teacher_layers)
    return pairs(student_layers, lambda m: m)


def one_to_one(*, student_layers, teacher_layers):
    need(student_layers == teacher_layers, "a student as deep as its teacher: "
         f"student {student_layers} layers, teacher {teacher_layers}")
    return pairs(student_layers, lambda m: m)


def skip(*, student_layers, teacher_layers):
    return without_the_last(uniform(student_layers=student_layers, teacher_layers=teacher_layers))


def patient_last(*, student_layers, teacher_layers):
    return without_the_last(top(student_layers=student_layers, teacher_layers=teacher_layers))


def middle(*, student_layers, teacher_layers):
    return np.array([((student_layers + 1) // 2 - 1, (teacher_layers + 1) // 2 - 1)])


def alternate(*, student_layers, teacher_layers):
    block = divided(student_layers, teacher_layers)
    return pairs(student_layers, lambda m: (m - 1) * block + 1)


def spread(*, student_layers, teacher_layers):
    """A student of one layer takes the first."""
    deeper(student_layers, teacher_layers)
    return pairs(student_layers, lambda m: round((m - 1) * (teacher_layers - 1) / max(1, student_layers - 1)) + 1)
