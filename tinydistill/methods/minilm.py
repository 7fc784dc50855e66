"""MiniLM (Wang et al. 2020): the last layer's attention distributions and value relations, and nothing else.

No layer map, no projection, no labels: depth and width of the student are free, only the head counts must agree.
"""

from tinydistill.errors import WrongUsage
from tinydistill.losses import minilm
from tinydistill.methods.stage import Method, Recipe, Stage


def equal_heads(student, teacher):
    """Relations are compared head by head (section 3.1)."""
    if student.heads != teacher.heads:
        width = teacher.heads * max(1, round(student.hidden / teacher.heads))           # the nearest that can have them
        raise WrongUsage(f"minilm needs the same number of attention heads: student {student.heads}, "
                         f"teacher {teacher.heads}; write the student as {student.layers}x{width}x{teacher.heads}, "
                         f"or without heads")


# Section 4.1: 400,000 steps of 256 sequences of 512 tokens, Adam (0.9, 0.999), warm-up 4,000, linear decay, decay 0.01;
# eps and clipping are not stated.
PAPER = Recipe(steps=400_000, batch_size=256, learning_rate=3e-4, warmup=4_000, max_length=512)
LAPTOP = Recipe(steps=600, batch_size=32, learning_rate=1e-3, warmup=60, max_length=64)

method = Method(
    "minilm", "Wang et al. 2020, MiniLM: Deep Self-Attention Distillation for Task-Agnostic Compression",
    stages=(Stage("distil", terms=((1.0, minilm.attention), (1.0, minilm.value_relation)),
                  recipes={"paper": PAPER, "laptop": LAPTOP}),),
    check=equal_heads, equal_heads=True)
