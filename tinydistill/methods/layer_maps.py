"""Layer maps: which teacher layer each student layer learns from.

Each takes M student layers and L teacher layers and returns pairs (student layer, teacher layer), counted from 0.
"""

from tinydistill.errors import WrongUsage


def last(student_layers, teacher_layers):
    """The last layer of each (MiniLM, DistilBERT).

    >>> last(6, 12)
    ((5, 11),)
    """
    return ((student_layers - 1, teacher_layers - 1),)


def uniform(student_layers, teacher_layers):
    """g(m) = m L/M, layers counted from 1: the last of each block of L/M (TinyBERT, Aguilar).

    >>> uniform(4, 12)
    ((0, 2), (1, 5), (2, 8), (3, 11))
    """
    if teacher_layers % student_layers:
        raise WrongUsage(f"the uniform layer map needs a teacher's depth that is a multiple of the student's: "
                         f"student {student_layers} layers, teacher {teacher_layers}")
    block = teacher_layers // student_layers
    return tuple((m, (m + 1) * block - 1) for m in range(student_layers))


def top(student_layers, teacher_layers):
    """g(m) = m + L - M: the teacher's last M layers (TinyBERT's ablation).

    >>> top(2, 12)
    ((0, 10), (1, 11))
    """
    _deeper(student_layers, teacher_layers)
    return tuple((m, m + teacher_layers - student_layers) for m in range(student_layers))


def bottom(student_layers, teacher_layers):
    """g(m) = m: the teacher's first M layers (TinyBERT's ablation).

    >>> bottom(2, 12)
    ((0, 0), (1, 1))
    """
    _deeper(student_layers, teacher_layers)
    return tuple((m, m) for m in range(student_layers))


def one_to_one(student_layers, teacher_layers):
    """Layer beside layer of two models of equal depth (MobileBERT)."""
    if student_layers != teacher_layers:
        raise WrongUsage(f"need a student as deep as its teacher: student {student_layers} layers, "
                         f"teacher {teacher_layers}")
    return bottom(student_layers, teacher_layers)


def skip(student_layers, teacher_layers):
    """PKD-Skip: the student's first M - 1 layers beside every (L/M)-th of the teacher's.

    >>> skip(6, 12)                                 # layers 2, 4, 6, 8, 10, counted from 1
    ((0, 1), (1, 3), (2, 5), (3, 7), (4, 9))
    """
    _patient(student_layers)
    return uniform(student_layers, teacher_layers)[:-1]


def patient_last(student_layers, teacher_layers):
    """PKD-Last: the student's first M - 1 layers beside the M - 1 before the teacher's last.

    >>> patient_last(6, 12)                         # layers 7 to 11, counted from 1
    ((0, 6), (1, 7), (2, 8), (3, 9), (4, 10))
    """
    _patient(student_layers)
    _deeper(student_layers, teacher_layers)
    return tuple((m, teacher_layers - student_layers + m) for m in range(student_layers - 1))


def middle(student_layers, teacher_layers):
    """The middle layer of each (FitNets: hint and guided layer).

    >>> middle(4, 12), middle(1, 1)
    (((1, 5),), ((0, 0),))
    """
    return (((student_layers - 1) // 2, (teacher_layers - 1) // 2),)


def _deeper(student_layers, teacher_layers):
    if student_layers > teacher_layers:
        raise WrongUsage(f"this layer map needs a teacher at least as deep as the student: student {student_layers} "
                         f"layers, teacher {teacher_layers}")


def _patient(student_layers):
    if student_layers < 2:
        raise WrongUsage("PKD compares all layers but the last: need a student of at least 2 layers, got 1")
