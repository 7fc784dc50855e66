"""How a checkpoint names things: as Hugging Face does for a family that transformers has, or as we do.

A `Form` says what a model's tensors and settings are called in a directory. `TheirForm` goes by one of the tables
`students/*_names.py`; `OwnForm` is for what transformers cannot express.
"""

import dataclasses
import importlib
import math
import pkgutil
import re

from tinydistill import architectures, students
from tinydistill.errors import Problem, WrongUsage
from tinydistill.students.configs import CLASSIFIERS, OF_WORDS

OWN = "tinydistill-"                                # before the model_type of a directory in our own form
LEGACY = (("LayerNorm.gamma", "LayerNorm.weight"), ("LayerNorm.beta", "LayerNorm.bias"))
BUFFERS = ("embeddings.position_ids", "embeddings.token_type_ids")
SAME_ACTIVATION = {"gelu_pytorch_tanh": "gelu_new", "gelu_fast": "gelu_new"}    # by another name, or in another order


class TheirForm:
    """What transformers calls the tensors and settings of a family, by its table."""

    def __init__(self, table):
        self.table = table
        self.model_type = table.FIXED["model_type"]
        self.head_prefixes = tuple({theirs.partition(".")[0] + "." for ours, theirs in table.NAMES.items()
                                    if ours.partition(".")[0] == "head"})
        self.next_sentence = table.NAMES.get("head.next_sentence", "no such head") + "."
        self.pooler = table.NAMES.get("pooler", "no pooler") + "."
        self.convolutions, self.transposed = getattr(table, "CONVOLUTIONS", ()), getattr(table, "TRANSPOSED", ())
        self.tied = table.TIED

    @property
    def title(self):
        return architectures.ARCHITECTURES[self.model_type].title

    # ------------------------------------------------------------ tensors

    def name(self, ours):
        """layers.3.attention.query.weight -> encoder.layer.3.attention.self.query.weight

        >>> FORMS["bert"].name("head.bias"), FORMS["bert"].name("layers.3.feed_forward_norm.weight")
        ('cls.predictions.bias', 'encoder.layer.3.output.LayerNorm.weight')
        """
        module, _, kind = ours.rpartition(".")
        theirs = self.table.NAMES[_general(module)]
        for letter, number in zip("NM", re.findall(r"\d+", module)):
            theirs = theirs.replace(f".{letter}.", f".{number}.", 1)
        return f"{theirs}.{kind}"

    def theirs(self, ours, x):
        """The array of our parameter as it lies in their file."""
        module, _, kind = ours.rpartition(".")
        if _general(module) in self.convolutions and kind == "weight":
            return x[:, :, None]                    # (F, D/groups, 1): a convolution over one token
        return x.T if _general(module) in self.transposed else x

    def ours(self, ours, x):
        """The array of their file as our parameter has it."""
        module, _, kind = ours.rpartition(".")
        if _general(module) in self.convolutions and kind == "weight" and x.ndim == 3 and x.shape[2] == 1:
            return x[:, :, 0]
        return x.T if _general(module) in self.transposed else x

    def canonical(self, tensors, settings, path):
        """The tensors by the names that the family has today, without prefix, buffers and what nothing reads."""
        unread = BUFFERS + (self.table.unread(settings) if hasattr(self.table, "unread") else ())
        found = {}
        for name, x in tensors.items():
            current = name.removeprefix(self.table.PREFIX)
            for old, new in LEGACY:
                current = current.replace(old, new)
            if current in found:
                raise Problem(f"cannot read {path}: it holds {current} twice")
            if not current.startswith(unread):
                found[current] = x
        return found

    def head_in(self, tensors, settings):
        """Which head the tensors are of, and the names of its classes."""
        def held(module):
            theirs = self.table.NAMES.get(module)
            return [x for name, x in tensors.items() if theirs and name.startswith(theirs + ".")]

        if held("head"):
            return "pretraining" if held("head.next_sentence") else "masked-lm", ()
        if held("head.ends"):
            return "span", ()
        names = self.table.NAMES
        biases = (names[ours] + ".bias" for ours in ("head.outer", "head.classifier") if ours in names)
        last = next((tensors[name] for name in biases if name in tensors), None)
        if last is None:
            return "none", ()
        kind, known = settings.get("architectures"), self.table.ARCHITECTURES
        of_tokens = kind == [known["token"]] if kind in ([known["token"]], [known["sequence"]]) \
            else self.table.SEQUENCE not in tensors
        classes = settings.get("id2label")
        classes = classes if isinstance(classes, dict) else {}
        labels = tuple(str(classes.get(str(i), f"LABEL_{i}")) for i in range(last.size))
        return "token" if of_tokens else "sequence", labels

    # ------------------------------------------------------------ settings

    def config(self, settings, path):
        """The configuration that config.json describes, without a head."""
        for name, needed in self.table.FIXED.items():
            if settings.get(name) not in (None, needed):
                raise WrongUsage(f"need a {self.title} with {name} {needed!r}: {path} says {settings[name]!r:.80}")
        chosen = dict(getattr(self.table, "FIELDS", {}))
        for ours, (theirs, default) in self.table.SETTINGS.items():
            value = default if settings.get(theirs) is None else settings[theirs]
            renamed = ours == "activation" and isinstance(value, str)
            chosen[ours] = SAME_ACTIVATION.get(value, value) if renamed else value
            _require_kind(ours, theirs, default, value, path)
        for theirs, other in getattr(self.table, "SAME", {}).items():
            if settings.get(theirs, settings.get(other)) != settings.get(other):
                raise WrongUsage(f"need a {self.title} whose {theirs} is its {other}: {path} says "
                                 f"{settings[theirs]!r:.80} and {settings.get(other)!r:.80}")
        if hasattr(self.table, "to_fields"):
            chosen |= self.table.to_fields(settings)
        return architectures.ARCHITECTURES[self.model_type].config(**chosen)

    def settings(self, config):
        """config.json of a model."""
        table = self.table
        settings = {"architectures": [table.ARCHITECTURES[config.head]], **table.FIXED,
                    **{theirs: getattr(config, ours) for ours, (theirs, _) in table.SETTINGS.items()},
                    **(table.to_settings(config) if hasattr(table, "to_settings") else {})}
        settings |= {theirs: settings[other] for theirs, other in getattr(table, "SAME", {}).items()}
        if config.head in CLASSIFIERS:
            settings["id2label"] = dict(enumerate(config.labels))
            settings["label2id"] = {label: i for i, label in enumerate(config.labels)}
        if config.head == "none" and not config.pooler and self.may_pool(config):
            settings["comment"] = (f"no pooler: in transformers, {settings['architectures'][0]}.from_pretrained(DIR, "
                                   f"add_pooling_layer=False)")
        return settings

    def may_pool(self, config):
        """Whether transformers has a pooler beside this head."""
        return self.table.ARCHITECTURES[config.head] in self.table.WITH_POOLER

    def written(self, config, ours):
        """The name under which a parameter is written, or None where transformers has no place for it."""
        if ours.startswith("pooler.") and not self.may_pool(config):
            return None
        inside = config.head != "none" and not ours.startswith("head.")
        return self.table.PREFIX * inside + self.name(ours)

    def twins(self, config):
        """{name: whose copy it is}. Beside an untied decoder transformers keeps two biases, and reads the decoder's."""
        untied = config.head in OF_WORDS and not config.tied
        return {twin: source for twin, source in self.tied.items() if untied and twin.endswith(".bias")}

    def refuses(self, config):
        """Why transformers cannot express this configuration, or nothing."""
        if config.head not in self.table.ARCHITECTURES:
            return f"it has no {architectures.of(config).title} with a {config.head} head"
        for name, value in getattr(self.table, "FIELDS", {}).items():
            if getattr(config, name) != value:
                return f"{name} is {value} there, and here {getattr(config, name)}"
        return self.table.unknown(config) if hasattr(self.table, "unknown") else ""


class OwnForm:
    """Our own names, for architectures that transformers cannot express: config.json says so."""

    head_prefixes, next_sentence, pooler, tied = ("head.",), "head.next_sentence.", "pooler.", {}

    def __init__(self, model_type):
        self.model_type = model_type

    def name(self, ours):
        return ours

    def written(self, config, ours):
        return ours

    def twins(self, config):
        return {}

    def theirs(self, ours, x):
        return x

    ours = theirs

    def canonical(self, tensors, settings, path):
        return dict(tensors)

    def head_in(self, tensors, settings):
        return settings["config"].get("head", "none"), tuple(settings["config"].get("labels", ()))

    def config(self, settings, path):
        """The configuration in config.json, without its head."""
        kind = architectures.ARCHITECTURES[self.model_type].config
        values = settings["config"] | {"head": "none", "labels": ()}
        for field in dataclasses.fields(kind):
            if field.type in (int, bool, str) and type(values.get(field.name, field.default)) is not field.type:
                raise Problem(f"cannot read {path}: need {field.name} of a {self.model_type} to be "
                              f"{field.type.__name__}, got {values.get(field.name)!r:.80}")
        unknown = sorted(values.keys() - {field.name for field in dataclasses.fields(kind)})
        if unknown:
            raise Problem(f"cannot read {path}: a {self.model_type} has no {unknown[0]!r:.80}")
        return kind(**values)

    def settings(self, config):
        return {"model_type": OWN + self.model_type, "config": config.as_dict(),
                "comment": "transformers cannot express this model: " + refusal(config)}


def _general(module):
    """layers.3.stacked.1.inner -> layers.N.stacked.M.inner"""
    letters = iter("NM")
    return re.sub(r"\d+", lambda _: next(letters), module)


def _require_kind(ours, theirs, default, value, path):
    """Raises: Problem where config.json has something else than the kind of value that a setting takes."""
    if isinstance(default, (bool, str)):
        if type(value) is not type(default):
            kind = "true or false" if isinstance(default, bool) else "a name"
            raise Problem(f"cannot read {path}: need {theirs} to be {kind}, got {value!r:.80}")
        return
    whole = isinstance(default, int)
    least, below = int(whole and ours != "pad_id"), 1 if "dropout" in ours else math.inf
    if type(value) not in ((int,) if whole else (int, float)) or not least <= value < below:
        raise Problem(f"cannot read {path}: need {theirs} to be a {'whole ' * whole}number of at least {least}"
                      f"{' and below 1' * (below == 1)}, got {value!r:.80}")


def _tables():
    modules = [importlib.import_module(f"{students.__name__}.{found.name}")
               for found in pkgutil.iter_modules(students.__path__) if found.name.endswith("_names")]
    return {table.FIXED["model_type"]: TheirForm(table) for table in modules}


FORMS = _tables()


def refusal(config):
    """Why transformers cannot express a configuration, or nothing where it can."""
    if config.model_type not in FORMS:
        return f"it has no {architectures.of(config).title}"
    return FORMS[config.model_type].refuses(config)


def form_of(config):
    """The form in which a model is written."""
    return OwnForm(config.model_type) if refusal(config) else FORMS[config.model_type]


def form_in(settings, path):
    """The form in which a directory is written, by its config.json."""
    if not isinstance(settings, dict):
        raise Problem(f"cannot read {path}: it holds no settings by name")
    kind = settings.get("model_type", "bert")
    if isinstance(kind, str) and kind.startswith(OWN) and kind.removeprefix(OWN) in architectures.ARCHITECTURES:
        if not isinstance(settings.get("config"), dict):
            raise Problem(f"cannot read {path}: it holds no configuration")
        return OwnForm(kind.removeprefix(OWN))
    if kind not in FORMS:
        known = [*FORMS, *(OWN + name for name in architectures.ARCHITECTURES)]
        raise WrongUsage(f"need a model_type out of {', '.join(known)}: {path} says {kind!r:.80}")
    return FORMS[kind]
