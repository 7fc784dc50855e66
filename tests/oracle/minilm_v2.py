"""MiniLMv2 in PyTorch: the model's own (B, T, D), cut anew, in the place of heads that are joined."""

from oracle.minilm import transfer


def relation_transfer(student_x, teacher_x, mask, relation_heads, convention="paper"):
    student, teacher = (x.transpose(1, 2).flatten(2).unflatten(2, (relation_heads, -1)).transpose(1, 2)
                        for x in (student_x, teacher_x))
    return transfer(student, student, teacher, teacher, mask, convention)
