"""Tang et al. 2019 in PyTorch: a torch.nn.LSTM learns the logits of transformers' BERT by torch.optim.Adadelta.

The losses are written out here, as the paper has them (`alpha`) and as castorini/d-bert (both weights 1).
"""

import torch
from torch.nn.functional import cross_entropy, mse_loss

from oracle import bert, bilstm


def paper(student, teacher, labels, alpha=0.0):
    """{term: (weight, value)}: the labels for a share alpha, the squared distance of logits for the rest."""
    terms = {"cross_entropy": (alpha, cross_entropy(student, labels)),
             "soft_labels.logits_mse": (1 - alpha, (student - teacher).square().sum(dim=1).mean())}
    return {name: (weight, value) for name, (weight, value) in terms.items() if weight}


def official(student, teacher, labels):
    return {"cross_entropy": (1.0, cross_entropy(student, labels)),
            "soft_labels.logits_mse": (1.0, mse_loss(student, teacher))}


def steps(objective, arrays, teacher, inputs, recipe):
    """One step for each of `inputs`, (texts, batch): ([{term: value, "loss", "gradient_norm"}], {our name: array}).

    arrays: our parameters; teacher: transformers' model, which reads the batch where the student reads the texts.
    """
    student, values = bilstm.Twin(arrays, torch.float64), []
    trained = [p for p in student.parameters() if p.requires_grad]
    optimizer = torch.optim.Adadelta(trained, lr=recipe.learning_rate, rho=0.95, eps=recipe.eps)
    for texts, batch in inputs:
        with torch.no_grad():
            taught = bert.graph(teacher, batch)["logits", None]
        terms = objective(student(*texts), taught, torch.tensor(batch.labels))
        loss = sum(weight * value for weight, value in terms.values())
        optimizer.zero_grad()
        loss.backward()
        norm = torch.nn.utils.get_total_norm([p.grad for p in trained])
        optimizer.step()
        values.append({name: value.item() for name, (_, value) in terms.items()}
                      | {"loss": loss.item(), "gradient_norm": norm.item()})
    return values, {student.names[name]: p.detach().numpy() for name, p in student.named_parameters()}
