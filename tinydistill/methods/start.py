"""How a student's weights begin: drawn, or copied from a teacher of its width: some of its layers, or all but these.

With layers embeddings and pooler are copied too. Of the heads only the bias of a masked-lm decoder is, whose matrix is
the word embeddings: its transform and every classifier begin fresh (DistilBERT's script without --vocab_transform;
BERT-PKD). All but the layers is MobileBERT's start, heads included.
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
OUTSIDE_ENCODER = "outside-encoder"
STARTS = {"random": None, "first-layers": first, "alternate-layers": alternate, "spread-layers": spread,
          OUTSIDE_ENCODER: None}


def copied(student, teacher, name):
    """The student with the weights that start `name` gives it; "random" leaves it as it was drawn. Returns the student.

    Raises: WrongUsage where the two are not of one width, or the student is deeper.
    """
    if name == "random":
        return student
    if reason := why_not(student.config, teacher.config, name):
        raise WrongUsage(f"{reason}; or say --start random")
    sources = _outside_encoder(student, teacher) if name == OUTSIDE_ENCODER else _layers(student, teacher, name)
    arrays, from_teacher = student.arrays(), teacher.arrays()
    return student.load(arrays | {own: from_teacher[source] for own, source in sources.items()
                                  if source in from_teacher and from_teacher[source].shape == arrays[own].shape})


def why_not(student, teacher, name):
    """Why a student of this configuration cannot begin so, in one line; nothing where it can."""
    if name == OUTSIDE_ENCODER and student.hidden != teacher.hidden:
        return (f"--start {name} copies embeddings and heads and needs a teacher of the student's width: "
                f"student {student.hidden}, teacher {teacher.hidden}")
    if STARTS[name] and student.layer_kind != teacher.layer_kind:
        return (f"--start {name} copies layers and needs a teacher with the student's kind of them: "
                f"student {student.layer_kind}, teacher {teacher.layer_kind}")
    if STARTS[name] and ((student.hidden, student.feed_forward, student.heads) !=
                         (teacher.hidden, teacher.feed_forward, teacher.heads) or student.layers > teacher.layers):
        return (f"--start {name} copies layers and needs a teacher of the student's width and heads, at least as deep: "
                f"student {student.layers}x{student.hidden}x{student.heads}, "
                f"teacher {teacher.layers}x{teacher.hidden}x{teacher.heads}")
    return ""


def _outside_encoder(student, teacher):
    """{name: the teacher's name}: whatever is in no layer, if both have it.

    But the norm of the embeddings where the two have different ones: in the published code of MobileBERT they have
    different names, so that the student's begins as the identity.
    Source: google-research/google-research mobilebert/run_pretraining.py.
    """
    kept = () if type(student.embeddings.norm) is type(teacher.embeddings.norm) else ("embeddings.norm.",)
    return {name: name for name in student.named_parameters() if not name.startswith(("layers.", *kept))}


def _layers(student, teacher, name):
    """{name: the teacher's name} of embeddings, pooler and the layers that this start chooses."""
    choose, ours, theirs = STARTS[name], student.config, teacher.config
    chosen, sources = choose(ours.layers, theirs.layers), {}
    for own in student.named_parameters():
        if own.startswith("layers."):
            _, m, rest = own.split(".", 2)
            sources[own] = f"layers.{chosen[int(m)]}.{rest}"
        elif not own.startswith("head.") or own == DECODER_BIAS:
            sources[own] = own
    return sources
