"""`tinydistill methods`: what there is to distil by."""

from tinydistill import methods
from tinydistill.commands import common

HELP = "list the methods with their papers, stages and recipes"


def arguments(parser):
    pass


def run(args):
    return [{"method": method.name, "paper": method.paper,
             "stages": [{"name": stage.name,
                         "terms": [{"weight": weight, "term": term.name} for weight, term in stage.terms],
                         "recipes": {name: recipe.as_dict() for name, recipe in stage.recipes.items()}}
                        for stage in method.stages]} for method in methods.METHODS.values()]


def text(result):
    return common.table([{"method": row["method"], "paper": row["paper"],
                          "terms": [t["term"] for stage in row["stages"] for t in stage["terms"]]} for row in result],
                        ("method", "terms", "paper"))
