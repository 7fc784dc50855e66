"""DistilBERT (Sanh et al. 2019): soft labels of every token, masked language modelling, direction of the last hidden states."""

from tinydistill.errors import WrongUsage
from tinydistill.losses import TERMS, hard_labels
from tinydistill.methods.stage import MASKED_EVERYWHERE, Method, Recipe, Stage


def equal_width(student, teacher, **settings):
    """A cosine needs two vectors of one space."""
    if student.hidden != teacher.hidden:
        raise WrongUsage(f"distilbert compares directions of hidden states and needs equal widths: student "
                         f"{student.hidden}, teacher {teacher.hidden}; write the student as {student.layers}x{teacher.hidden}")


# distillation/train.py and README: AdamW (0.9, 0.98), eps 1e-6, rate 5e-4, no decay, warm-up 5 %, clip 5, 3 epochs;
# the paper: up to 4,000 rows a batch, Wikipedia and books. The weights 5, 2, 1 are the release's; the paper gives none.
PAPER = Recipe(steps=100, warmup=5, epochs=3, batch_size=4_000, learning_rate=5e-4, beta2=0.98, decay=0.0, clip=5.0,
               max_length=512)
LAPTOP = Recipe(steps=600, warmup=30, batch_size=32, learning_rate=5e-4, beta2=0.98, decay=0.0, clip=5.0, max_length=64)


def stages(soft_labels, masked_lm, cosine, temperature):
    """The three terms with their weights; temperature T of the soft labels."""
    return (Stage("distil", reads=MASKED_EVERYWHERE, head="masked-lm", recipes={"paper": PAPER, "laptop": LAPTOP},
                  official_masking="frequency", terms=(
        (soft_labels, TERMS["distilbert.soft_labels"].but(temperature=temperature)),
        (masked_lm, hard_labels.masked_lm),
        (cosine, TERMS["distilbert.cosine"]))),)


method = Method(
    "distilbert", "Sanh et al. 2019, DistilBERT, a distilled version of BERT",
    on_text=stages, settings={"soft_labels": 5.0, "masked_lm": 2.0, "cosine": 1.0, "temperature": 2.0},
    check=equal_width, start="spread-layers")
