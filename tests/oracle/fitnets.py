"""FitNets in PyTorch: a linear regressor and half a squared error, cross_entropy with labels and with soft targets."""

from torch.nn.functional import cross_entropy, linear, mse_loss, softmax


def hint(student, teacher, weight, bias, mask):
    return mse_loss(linear(student[mask], weight, bias), teacher[mask].detach(), reduction="sum") / (2 * mask.sum())


def official(student, teacher, weight, bias, mask):
    """Padding is not looked at: the sum over the width, then the mean of the rest."""
    return 0.5 * (linear(student, weight, bias) - teacher.detach()).square().sum(dim=2).mean()


def softened(student, teacher, tau):
    return cross_entropy(student / tau, softmax(teacher.detach() / tau, dim=1))


def softened_with_labels(student, teacher, labels, lam_target, lam_teach, tau):
    hard = cross_entropy(student, student.new_tensor(labels).long())                    # labels: NumPy
    return lam_target * hard + lam_teach * softened(student, teacher, tau)
