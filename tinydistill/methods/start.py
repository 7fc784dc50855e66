"""How a student's weights begin: drawn, or copied from layers of a teacher of its width.

Embeddings and pooler are copied too. Of the heads only the bias of a masked-lm decoder is, whose matrix is the word
embeddings: its transform and every classifier begin fresh (DistilBERT's script without --vocab_transform; BERT-PKD).
"""

from tinydistill.errors import WrongUsage


def first(student_layers, teacher_layers):
    """The teacher's first layers (BERT-PKD: "the first k layers")."""
    return list(range(student_layers))


def alternate(student_layers, teacher_layers):
    """Every (L/M)-th layer, from the first (DistilBERT's paper: "one layer out of two").

    >>> alternate(6, 12)
    [0, 2, 4, 6, 8, 10]
    """
    return [m * (teacher_layers // student_layers) for m in range(student_layers)]


def spread(student_layers, teacher_layers):
    """Layers from first to last at even steps, rounded to what DistilBERT's script takes of twelve: {0, 2, 4, 7, 9, 11}.

    Source: transformers-research-projects, distillation/scripts/extract_distilbert.py, which names these six; for other
    depths this is their rule, not a published list.

    >>> spread(6, 12), spread(2, 4), spread(1, 4)
    ([0, 2, 4, 7, 9, 11], [0, 3], [0])
    """
    if student_layers == 1:
        return [0]
    return [round(m * (teacher_layers - 1) / (student_layers - 1)) for m in range(student_layers)]


DECODER_BIAS = "head.bias"                           # of a masked-lm head, one number a word piece
STARTS = {"random": None, "first-layers": first, "alternate-layers": alternate, "spread-layers": spread}


def copied(student, teacher, name):
    """The student with the weights that start `name` gives it; "random" leaves it as it was drawn. Returns the student.

    Raises: WrongUsage where the two are not of one width, or the student is deeper.
    """
    choose = STARTS[name]
    if choose is None:
        return student
    ours, theirs = student.config, teacher.config
    if (ours.hidden, ours.feed_forward, ours.heads) != (theirs.hidden, theirs.feed_forward, theirs.heads) \
            or ours.layers > theirs.layers:
        raise WrongUsage(f"--start {name} copies layers and needs a teacher of the student's width and heads, at least as "
                         f"deep: student {ours.layers}x{ours.hidden}x{ours.heads}, "
                         f"teacher {theirs.layers}x{theirs.hidden}x{theirs.heads}; or say --start random")
    chosen, arrays, from_teacher = choose(ours.layers, theirs.layers), student.arrays(), teacher.arrays()
    for own in arrays:
        source = own if not own.startswith("head.") or own == DECODER_BIAS else ""
        if own.startswith("layers."):
            _, m, rest = own.split(".", 2)
            source = f"layers.{chosen[int(m)]}.{rest}"
        if source in from_teacher and from_teacher[source].shape == arrays[own].shape:
            arrays[own] = from_teacher[source]
    return student.load(arrays)
