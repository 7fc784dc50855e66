"""The BiLSTM of Tang et al. 2019 in PyTorch, with the weights of ours: torch.nn.LSTM on packed sentences."""

import numpy as np
import torch
from torch.nn.utils.rnn import pack_sequence

PARTS = {"weight_ih_l0": "input_weight", "weight_hh_l0": "hidden_weight", "bias_ih_l0": "input_bias",
         "bias_hh_l0": "hidden_bias"}
NAMES = {theirs + suffix: f"lstm.{direction}.{ours}" for theirs, ours in PARTS.items()
         for suffix, direction in (("", "forward"), ("_reverse", "backward"))}


class Twin(torch.nn.Module):
    """embeddings: the tables by name, of which those called fixed are constants."""

    def __init__(self, arrays, dtype):
        super().__init__()
        self.names = {}                             # theirs: ours
        tables = [name for name in arrays if name.startswith("embeddings.")]
        self.tables = torch.nn.ModuleList(torch.nn.Embedding.from_pretrained(
            torch.tensor(arrays[name]), freeze="fixed" in name) for name in tables)
        self.names |= {f"tables.{i}.weight": name for i, name in enumerate(tables)}
        width, inputs = arrays["lstm.forward.hidden_weight"].shape[1], arrays["lstm.forward.input_weight"].shape[1]
        self.lstm = torch.nn.LSTM(inputs, width, bidirectional=True, batch_first=True)
        self.names |= {f"lstm.{theirs}": ours for theirs, ours in NAMES.items()}
        for name in ("inner", "classifier"):
            outputs, inputs = arrays[f"head.{name}.weight"].shape
            setattr(self, name, torch.nn.Linear(inputs, outputs))
            self.names |= {f"{name}.{part}": f"head.{name}.{part}" for part in ("weight", "bias")}
        assert sorted(self.names.values()) == sorted(arrays)
        self.to(dtype).load_state_dict({theirs: torch.tensor(arrays[ours]) for theirs, ours in self.names.items()})

    def encode(self, sentences):
        """(B, 2H) of lists of ids, as many as each has."""
        x = [torch.cat([table(torch.tensor(ids)) for table in self.tables], dim=-1) for ids in sentences]
        last = self.lstm(pack_sequence(x, enforce_sorted=False))[1][0]                  # (2, B, H)
        return torch.cat([last[0], last[1]], dim=-1)

    def forward(self, *texts):
        """Logits of single sentences, or of pairs: one list of sentences, or two."""
        summary, *other = map(self.encode, texts)
        if other:
            v, = other
            summary = torch.cat([summary, v, (summary - v).abs(), summary * v], dim=-1)
        return self.classifier(self.inner(summary).relu())


def logits_and_gradients(arrays, texts, upstream, dtype="float64"):
    """(logits, {our name: gradient of <upstream, logits>}) for parameters of ours; a fixed table has no gradient."""
    twin = Twin(arrays, getattr(torch, dtype))
    logits = twin(*texts)
    logits.backward(torch.tensor(np.asarray(upstream, dtype)))
    found = {twin.names[name]: parameter.grad for name, parameter in twin.named_parameters()}
    return logits.detach().numpy(), {name: None if g is None else g.numpy() for name, g in found.items()}
