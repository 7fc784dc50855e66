"""The loss of answer spans in PyTorch: its own cross_entropy over tokens, which knows -100 as well."""

import torch
from torch.nn.functional import cross_entropy


def positions(logits, labels, mask, divisor, padding=False):
    """logits a torch tensor (B, T, 2); labels (B, 2), mask (B, T) torch tensors or NumPy."""
    labels, mask = torch.as_tensor(labels).long(), torch.as_tensor(mask)
    if not padding:
        logits = logits.masked_fill(~mask[..., None], -torch.inf)
    both = [cross_entropy(z, y, ignore_index=-100, reduction="sum") for z, y in zip(logits.unbind(2), labels.unbind(1))]
    return sum(both) / divisor
