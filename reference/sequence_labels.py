"""Small and practical BERT models for sequence labeling (Tsai et al. 2019). Unverified: the formula is from memory.

    L        = -sum_n m_n sum_c p_nc log q_nc / sum_n m_n       m_n = 1 at the first piece of each word, else 0
    dL/dz^S_n = m_n (q_n - p_n) / sum_n m_n

over the tokens n of a batch. Shapes: student, teacher logits (..., C); labels (...,), -100 but at first pieces.

Traps
  - pieces after a word's first, [CLS], [SEP] and padding carry no label and have no part in it
  - the mean runs over the words of the batch, not over its sequences
  - a cross-entropy: its smallest value is the teacher's entropy, not 0
"""

from tinydistill_reference.soft_labels import soft_labels, soft_labels_gradient


def sequence_labels(student_logits, teacher_logits, labels, *, temperature=1.0, rows="labelled", divisor="row",
                    temperature_squared=False, constant="cross-entropy"):
    """L; softened where a temperature is given, without its square."""
    return soft_labels(student_logits, teacher_logits, None, labels, temperature=temperature, rows=rows,
                       divisor=divisor, temperature_squared=temperature_squared, constant=constant)


def sequence_labels_gradient(upstream, student_logits, teacher_logits, labels, *, temperature=1.0, rows="labelled",
                             divisor="row", temperature_squared=False, constant="cross-entropy"):
    """dL/dz^S = m (q - p) / (T sum m)."""
    return soft_labels_gradient(upstream, student_logits, teacher_logits, None, labels, temperature=temperature,
                                rows=rows, divisor=divisor, temperature_squared=temperature_squared,
                                constant=constant)
