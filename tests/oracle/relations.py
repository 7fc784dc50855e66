"""Rows of scores in PyTorch, under any convention, row by row."""

from torch.nn.functional import log_softmax


def relation_kl(student_scores, teacher_scores, mask, convention):
    B, A, T = student_scores.shape[:3]
    total = student_scores.new_zeros(())
    for b in range(B):
        rows = range(T) if convention.rows == "all" else mask[b].nonzero().ravel().tolist()
        keys = list(range(T)) if convention.keys == "all" else mask[b].nonzero().ravel().tolist()
        counted = B * T if convention.rows == "all" else int(mask.sum())
        divisor = {"sequence": len(rows) * B, "row": counted, "element": counted * T, "none": 1}[convention.divisor]
        for a in range(A):
            for t in rows:
                log_q, log_p = (log_softmax(scores[b, a, t, keys], 0) for scores in (student_scores, teacher_scores))
                compared = -log_q if convention.constant == "cross-entropy" else log_p - log_q
                total = total + (log_p.exp() * compared).sum() / (A * divisor)
    return total
