"""MiniLM's ablations in PyTorch, one unpadded sequence at a time."""

from torch.nn.functional import linear, mse_loss

from oracle.minilm import transfer


def value_error(student_values, teacher_values, mask, weight, bias=None):
    student, teacher = (values.transpose(1, 2).flatten(2) for values in (student_values, teacher_values))
    return sum(mse_loss(linear(student[b, real], weight, bias), teacher[b, real])
               for b, real in enumerate(mask)) / len(mask)


def hidden_relation_transfer(student_hidden, teacher_hidden, mask):
    student, teacher = student_hidden.unsqueeze(1), teacher_hidden.unsqueeze(1)
    return transfer(student, student, teacher, teacher, mask)
