"""The losses with labels in PyTorch: its own cross_entropy, which knows -100 as well."""

from torch.nn.functional import cross_entropy


def label_loss(logits, labels, divisor):
    """logits a torch tensor (N, V), labels NumPy (N,)."""
    return cross_entropy(logits, logits.new_tensor(labels).long(), ignore_index=-100, reduction="sum") / divisor
