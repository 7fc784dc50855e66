"""`tinydistill predict`: a model's answers to the lines of standard input."""

import sys

import numpy as np

from tinydistill import hub
from tinydistill.commands import common
from tinydistill.data import tokenizer as tokenizers
from tinydistill.data.batches import Batches
from tinydistill.errors import WrongUsage
from tinydistill.training import evaluation

HELP = ("answer each line of standard input (two texts are parted by a TAB): classes, the words behind [MASK], or a span "
        "of the second text")
SHOWN = 5                                           # candidates for a masked word
LONGEST = 30                                        # tokens of an answer


def arguments(parser):
    parser.add_argument("--model", required=True, metavar="DIR", help="a fine-tuned or pre-trained model")
    parser.add_argument("--max-length", type=common.positive, default=128, metavar="N", help="default 128")
    common.machine_flags(parser)


def run(args):
    path = hub.located(args.model, "a model")
    tokenizer = tokenizers.load(path)
    model = common.placed(args, hub.read(path, head="any"))
    if model.config.head == "none":
        raise WrongUsage(f"{args.model} holds an encoder without a head: fine-tune it first, or take a pre-trained model")
    if sys.stdin.isatty():
        common.say(args, "one text a line, then Ctrl-D:")
    texts = [line.strip() for line in sys.stdin if line.strip()]
    if not texts:
        raise WrongUsage("need one text a line on standard input, got none")
    firsts, tabs, seconds = zip(*(text.partition("\t") for text in texts))
    if any(tabs) and not all(tabs):
        raise WrongUsage(f"need a TAB in every line or in none; line {tabs.index('') + 1} has none")
    most = min(args.max_length, model.config.longest)
    sequences, types = tokenizers.encode(tokenizer, firsts, most, seconds) if any(tabs) else (
        tokenizers.encode(tokenizer, firsts, most), None)
    special = tokenizers.special_ids(tokenizer)
    if model.config.head == "span" and not any(tabs):
        raise WrongUsage("need a question, a TAB and the text that answers it in every line for a model of spans")
    answer = {"sequence": _sequence, "token": _tokens, "masked-lm": _masked, "span": _span}[model.config.head]
    logits = evaluation.logits(model, Batches(sequences, 32, 0, token_types=types, pad_id=special.pad))
    return [{"text": text, **answer(model.config, tokenizer, special, ids, scores, text)}
            for text, ids, scores in zip(texts, sequences, logits)]


def _sequence(config, tokenizer, special, ids, scores, text):
    p = evaluation.probabilities(scores)
    return {"label": config.labels[int(p.argmax())], "probabilities": dict(zip(config.labels, map(float, p)))}


def _tokens(config, tokenizer, special, ids, scores, text):
    p = evaluation.probabilities(scores)                                                # (n, C)
    return {"tokens": [{"token": tokenizer.id_to_token(int(i)), "label": config.labels[int(row.argmax())],
                        "probability": float(row.max())} for i, row in zip(ids, p)][1:-1]}


def _masked(config, tokenizer, special, ids, scores, text):
    p = evaluation.probabilities(scores)                                                # (n, V)
    best = {int(place): np.argsort(-p[place])[:SHOWN] for place in np.flatnonzero(ids == special.mask)}
    if not best:
        mask = tokenizer.id_to_token(special.mask)
        raise WrongUsage(f"need a {mask} in every line for a masked language model, as in: the {mask} of a file")
    return {"masks": [[{"token": tokenizer.id_to_token(int(i)), "probability": float(p[place, i])} for i in candidates]
                      for place, candidates in best.items()]}


def _span(config, tokenizer, special, ids, scores, text):
    """What the second text has from token i to j, at most LONGEST tokens, for which start_i + end_j is largest."""
    second = text.partition("\t")[2]
    found = tokenizer.encode(second, add_special_tokens=False)
    most = min(len(found), len(ids) - 1)            # before one special token; what was too long lost its end
    n = next(n for n in range(most, -1, -1) if ids[len(ids) - 1 - n:-1].tolist() == found.ids[:n])
    if n == 0:
        raise WrongUsage(f"need a text with at least one token behind every TAB; {text!r:.60} has none")
    start, end = scores[len(ids) - 1 - n:-1].T                                          # (n,) each
    places = np.arange(n) - np.arange(n)[:, None]                                       # [i, j]: j - i
    sums = np.where((0 <= places) & (places < LONGEST), start[:, None] + end, -np.inf)
    i, j = np.unravel_index(sums.argmax(), sums.shape)
    return {"answer": second[found.offsets[i][0]:found.offsets[j][1]].strip(), "score": float(sums[i, j])}


def text(result):
    return "\n".join(f"{row['text']}\n    {_line(row)}" for row in result)


def _line(row):
    if "answer" in row:
        return row["answer"]
    if "label" in row:
        return f"{row['label']}  {row['probabilities'][row['label']]:.3f}"
    if "tokens" in row:
        return "  ".join(f"{t['token']}/{t['label']}" for t in row["tokens"])
    return "\n    ".join("  ".join(f"{c['token']} {c['probability']:.3f}" for c in mask) for mask in row["masks"])
