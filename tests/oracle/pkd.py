"""Patient knowledge distillation in PyTorch: normalize and mse_loss of the [CLS] vectors."""

from torch.nn.functional import mse_loss, normalize


def _cls(student, teacher, normalised):
    """[CLS] of both, (B, D)."""
    pair = student[:, 0], teacher[:, 0].detach()
    return [normalize(x, dim=1) for x in pair] if normalised else pair


def paper(student, teacher, mask, normalised=True):
    return mse_loss(*_cls(student, teacher, normalised), reduction="sum") / len(mask)


def summed(student, teacher, mask):
    return mse_loss(*_cls(student, teacher, True), reduction="sum")


def official(student, teacher, mask, normalised=True):
    return mse_loss(*_cls(student, teacher, normalised))


def textbrewer(student, teacher, mask):
    student, teacher = _cls(student, teacher, True)
    return (student - teacher).square().sum(dim=1).mean()
