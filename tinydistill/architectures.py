"""Every architecture by its model_type, and every size by its name: what a person may ask for, as a configuration."""

import importlib
import pkgutil

from tinydistill import compress, students
from tinydistill.errors import WrongUsage
from tinydistill.students.architecture import Architecture, counted
from tinydistill.students.configs import numbers


def _collect(*packages):
    """The Architectures that the files of these folders define, BERT first, then in the order of the names."""
    modules = [importlib.import_module(f"{package.__name__}.{found.name}")
               for package in packages for found in pkgutil.iter_modules(package.__path__)]
    found = [value for module in modules for value in vars(module).values() if isinstance(value, Architecture)]
    return {one.model_type: one for one in sorted(found, key=lambda one: one.model_type != "bert")}


ARCHITECTURES = _collect(students, compress)
SIZES = {name: size for architecture in ARCHITECTURES.values() for name, size in architecture.published.items()}
SIZED = {prefix: make for architecture in ARCHITECTURES.values() for prefix, make in architecture.sized.items()}


def parse(size, heads=None):
    """The configuration that a size means: a published name, `LxH` or `LxHxA` of a BERT, `PREFIX-LxH` of another.

    heads: how many a size without A gets; None takes the architecture's rule (BERT: 12 from H = 312 up where 12 divides
    H, else H / 64, at least 1). A number that was written or published stays.
    Raises: WrongUsage for anything else.

    >>> [(str(c), c.heads) for c in map(parse, ("6x384", "2x128x4", "turc-tiny", "squeezebert-2x128", "mobilebert"))]
    [('BERT 6x384', 12), ('BERT 2x128', 4), ('BERT 2x128', 2), ('SqueezeBERT 2x128', 2), ('MobileBERT 24x512', 4)]
    """
    if size in SIZES:
        return SIZES[size].config
    prefix, dash, written = size.rpartition("-")
    shape = numbers(written)
    if shape is None or prefix not in SIZED or dash and not prefix:
        raise WrongUsage(f"need a size such as 6x384, 2x128x4, one with a prefix such as squeezebert-2x128 "
                         f"({', '.join(filter(None, SIZED))}), or a published name ({', '.join(SIZES)}); got {size!r}")
    layers, hidden, fixed = shape
    return SIZED[prefix](layers, hidden, fixed or heads)


def has_fixed_heads(size):
    """Whether the size itself says how many heads it has."""
    return size in SIZES or (numbers(size.rpartition("-")[2]) or (0, 0, None))[2] is not None


def fitted(config, **wanted):
    """The configuration with those of the wanted values that its architecture has a field for, and a use.

    One without token types stays so.
    """
    known = config.as_dict()
    if not known.get("token_types"):
        known.pop("token_types", None)
    return config.but(**{name: value for name, value in wanted.items() if name in known})


def of(config):
    """The Architecture of a configuration."""
    return ARCHITECTURES[config.model_type]


def build(config, seed=0):
    """The model of a configuration, drawn by `seed`; None leaves its matrices at zero, for whoever fills them."""
    return of(config).model(config, seed)


def parameter_count(config):
    """Exact counts by part, from the configuration alone: {part: count, ..., "total": count}."""
    return of(config).parameter_count(config)


def paper_count(name):
    """The parameters of a published size as its paper counts them."""
    size = SIZES[name]
    return counted(of(size.config).parameter_count, size.config, size.counted)
