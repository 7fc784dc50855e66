"""Students that stand on the body of a BERT that is there already: BERT-Vision's pooler, Houlsby's adapters."""

from tinydistill.errors import WrongUsage

# What a body is. Its parameters are called by one name in all of them, so that `methods.start` can copy it whole.
BODY = ("layers", "hidden", "heads", "feed_forward", "vocabulary", "positions", "token_types", "eps", "activation",
        "pad_id")


def on_body(config, body):
    """The configuration on the body of another: its own parts stay as they are, dropout comes along.

    A head of a sequence reads no more tokens than the body takes.
    """
    _require_bert(config, body)
    shape = {name: getattr(body, name) for name in (*BODY, "dropout", "attention_dropout")}
    if hasattr(config, "length"):
        shape["length"] = min(config.length, body.positions)
    return config.but(**shape)


def require_body(config, body):
    """Raises: WrongUsage where a configuration stands on another body than this one."""
    _require_bert(config, body)
    for name in BODY:
        here, there = getattr(config, name), getattr(body, name, None)
        if here != there:
            raise WrongUsage(f"need {config} on the body of its teacher, {body}: its {name} is {here}, "
                             f"the teacher's {there}")


def _require_bert(config, body):
    if body.model_type not in ("bert", config.model_type):
        raise WrongUsage(f"need a BERT as the body of {config}; got {body}")
