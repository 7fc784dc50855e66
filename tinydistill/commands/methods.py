"""`tinydistill methods`: what there is to distil by, stage by stage."""

from dataclasses import asdict

from tinydistill import methods
from tinydistill.commands import common

HELP = "list the methods with their papers, stages, settings and recipes"


def arguments(parser):
    pass


def run(args):
    return [{"method": method.name, "paper": method.paper, "start": method.start, "settings": method.settings,
             "grid": {name: list(values) for name, values in method.grid.items()}, "notes": method.notes,
             "on": {where: [_stage(stage) for stage in method.stages(task=where == "task")]
                    for where, build in (("text", method.on_text), ("task", method.on_task)) if build}}
            for method in methods.METHODS.values()]


def _stage(stage):
    return {"name": stage.name, "reads": stage.reads, "head": stage.head, "each_layer": stage.each_layer,
            "layer_map": stage.layer_map.__name__ if stage.layer_map else None,
            "terms": _terms(stage.terms), "official": _terms(stage.under("official").terms),
            "recipes": {name: recipe.as_dict() for name, recipe in stage.recipes.items()}}


def _terms(terms):
    return [{"weight": weight if isinstance(weight, (int, float)) else asdict(weight), "term": term.name,
             "convention": term.convention, "temperature": term.temperature} for weight, term in terms]


def text(result):
    rows = [{"method": row["method"], "on": where, "stages": " -> ".join(stage["name"] for stage in stages),
             "terms": " -> ".join(" + ".join(t["term"] for t in stage["terms"]) for stage in stages),
             "settings": [f"{name}={value:.4g}" if isinstance(value, float) else f"{name}={value}"
                          for name, value in row["settings"].items()], "paper": row["paper"].partition(",")[0]}
            for row in result for where, stages in row["on"].items()]
    return common.table(rows, ("method", "on", "stages", "terms", "settings", "paper"))
