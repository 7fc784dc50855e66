"""MiniLMv2 (Wang et al. 2021): relations of queries, keys and values among themselves, in relation heads.

Heads are put together and split anew into relation heads, so that head counts may differ.
"""

import math

from tinydistill.errors import WrongUsage
from tinydistill.losses import TERMS
from tinydistill.methods.stage import Method, Recipe, Stage

# bloomberg/minilmv2.bb for 6x384: 256 rows a device, rate 6e-4, 400,000 steps, warm-up 4,000, beta2 0.999, eps 1e-6,
# decay 0.01, 512 tokens, 48 relation heads, the base teacher's last layer (12); each relation counts 1.
RECIPES = {"paper": Recipe(steps=400_000, batch_size=256, learning_rate=6e-4, warmup=4_000, max_length=512),
           "laptop": Recipe(steps=600, batch_size=32, learning_rate=1e-3, warmup=60, max_length=64)}


def check(student, teacher, relation_heads, teacher_layer):
    """Both widths are cut into relation heads of one size."""
    heads = relation_heads or teacher.heads
    if heads < 1 or student.hidden % heads or teacher.hidden % heads:
        raise WrongUsage(f"need a number of relation heads that divides both widths: {heads} relation heads, student "
                         f"{student.hidden}, teacher {teacher.hidden}; say --set "
                         f"relation_heads={math.gcd(student.hidden, teacher.hidden)}, or a divisor of it")


def stages(relation_heads, teacher_layer):
    """Three relations of one teacher layer, each in `relation_heads` heads."""
    def one_layer(student_layers, teacher_layers):
        if not 0 <= teacher_layer <= teacher_layers:
            raise WrongUsage(f"need a teacher_layer from 1 to {teacher_layers}, or 0 for the last; got {teacher_layer}")
        return ((student_layers - 1, (teacher_layer or teacher_layers) - 1),)

    terms = tuple((1.0, TERMS[f"minilm_v2.{name}"].but(relation_heads=relation_heads))
                  for name in ("queries", "keys", "values"))
    return (Stage("distil", terms=terms, recipes=RECIPES, layer_map=one_layer),)


method = Method(
    "minilm-v2", "Wang et al. 2021, MiniLMv2: Multi-Head Self-Attention Relation Distillation",
    on_text=stages, settings={"relation_heads": 0, "teacher_layer": 0}, check=check,
    notes="relation_heads 0: the teacher's heads (published: 48 for base teachers, 64 for large ones); teacher_layer "
          "counts from 1, 0 is the last (published for large teachers: 21st of BERT, 19th of RoBERTa, unverified)")
