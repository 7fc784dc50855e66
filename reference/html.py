"""What came of a run as one page: a table of all equations, and below it every failure with pictures of its errors.

The page needs nothing but itself: no script, no file beside it. It suits a light and a dark screen, and print.
"""

import re
from html import escape

import numpy as np

from tinydistill_reference import heat_map
from tinydistill_reference.diagnose import axes, padding
from tinydistill_reference.evidence import evidence, lines
from tinydistill_reference.report import (WORDS, asked_for, block, cause, followed, hashes, heading, otherwise, tested,
                                          text, verdict)
from tinydistill_reference.words import many, percent, times

ENTRIES = 40_000                                    # that are drawn; of what comes later the text has to do
OPEN = 3                                            # cases of an equation that are unfolded
CSS = """
:root { color-scheme: light dark; --page: #ffffff; --text: #1c2126; --soft: #5a6470; --rule: #dadee3; --tint: #f4f6f8 }
@media (prefers-color-scheme: dark) {
  :root { --page: #14171a; --text: #e3e6ea; --soft: #9aa4af; --rule: #353b43; --tint: #1d2227 } a { color: #8ab8ff } }
body { margin: 0 auto; max-width: 80rem; padding: 1.5rem 1rem 4rem; background: var(--page); color: var(--text);
  font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: break-word }
h1 { margin: 0; font-size: 1.6rem } h2 { margin: 3rem 0 .5rem; font-size: 1.25rem }
h3 { margin: 1.5rem 0 .25rem; font-size: 1rem } p { margin: .5rem 0; max-width: 60rem } .wide { overflow-x: auto }
code { font-family: ui-monospace, monospace; font-size: .9em } pre { white-space: pre-wrap }
table { margin: .75rem 0; border-collapse: collapse; font-size: .9rem } th { color: var(--soft) }
th, td { padding: .3rem 1.25rem .3rem 0; border-bottom: 1px solid var(--rule); text-align: left; vertical-align: top }
.right-aligned { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums }
details { margin: .75rem 0; padding: .5rem .75rem; background: var(--tint); border-radius: .4rem }
summary { cursor: pointer } figure { margin: .75rem 0 } .formula { font-size: 1.05rem }
.legend td.words { text-align: left; padding-right: .6rem; white-space: nowrap }
.explains { white-space: nowrap } .bar { display: inline-block; height: .6rem; background: #0a63a8 }
.fail, .other, .pass, .none { padding: .05rem .4rem; border-radius: .3rem; font-weight: 600; white-space: nowrap }
.fail { background: #b3261e; color: #fff } .other { background: #f4c430; color: #000 }
.pass { background: #1b7f4b; color: #fff } .none { border: 1px solid var(--soft) }
"""


class Room:
    """How many more entries are drawn."""

    def __init__(self, entries):
        self.left = entries

    def takes(self, entries):
        self.left -= entries
        return self.left >= 0


def page(results):
    """The whole page."""
    seen, room = [verdict(r) for r in results], Room(ENTRIES)
    passed = sum(s.status == "passed" for s in seen)
    title = f"verify: {passed} of {many(len(seen), 'check')} {'passes' if passed == 1 else 'pass'}"
    trouble = [_section(s, i, room) for i, s in enumerate(seen) if s.status != "passed"]
    legend = f'<div class="wide">{heat_map.legend()}</div>' if any(s.failed for s in seen) else ""
    details = "".join(_passed(s, i) for i, s in enumerate(seen) if s.status == "passed")
    return ('<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
            f'<meta name="viewport" content="width=device-width">\n<title>{escape(title)}</title>\n'
            f"<style>{CSS}{heat_map.CSS}</style></head>\n<body>\n<h1>{escape(title)}</h1>\n"
            + _summary(seen) + legend + "\n".join(trouble) + (f"<h2>What passes</h2>\n{details}" if details else "")
            + "\n</body></html>\n")


def _summary(seen):
    rows = [[f'<a href="#e{i}">{escape(s.result.equation.name)}</a>', _mark(s), s.result.dtype, *_counts(s.result),
             escape(asked_for(s.result)), escape(tested(s.result)), escape(_in_short(s)),
             f"{s.result.version} {hashes(s.result)['hash'][:6]}"]
            for i, s in enumerate(seen)]
    return _table(["equation", "verdict", "dtype", "cases", "largest error", "convention", "tested", "what it is",
                   "vectors"],
                  rows, (3, 4))


def _counts(result):
    """Cases that pass, and the largest error of all."""
    ran = result.of("passed", "acceptable", "failed", "announced")
    errors = [c.error for o in ran for c in o.comparisons.get(result.convention, ())]
    worst = max(errors, default=None)
    return (f"{len(result.of('passed', 'acceptable'))} of {len(ran)}",
            "" if worst is None else times(worst) if np.isfinite(worst) else "not comparable")


def _in_short(seen):
    if seen.status == "other":
        return f"convention {seen.result.follows}"
    if not seen.best or not seen.failed:
        return ""
    return f"{'equals' if seen.best.share == 1 else 'like'} {seen.best.trap.flag}"


def _mark(seen):
    word = WORDS[seen.status]
    return f'<span class="{word.lower()}">{word}</span>'


def _section(seen, i, room):
    """An equation that does not pass: why, the known mistakes beside it, its cases."""
    result, equation = seen.result, seen.result.equation
    failed = seen.failed
    parts = [f'<section id="e{i}"><h2>{_mark(seen)} {escape(equation.name)}, {result.dtype}</h2>',
             f'<p class="formula"><code>{escape(equation.formula)}</code><br>{escape(equation.paper)}, '
             f"{escape(equation.equation)}</p>"]
    if seen.status == "other":
        said = [f"{followed(result)}. If that is what you mean: --convention {result.follows}", *otherwise(seen)]
    else:
        said = cause(seen)[:-1] if failed else [heading(seen)]
    parts += [f"<p>{_linked(line)}</p>" for line in said]
    if failed and seen.matches:
        parts.append(_mistakes(seen))
    parts += [_case(result, o, n < OPEN, room) for n, o in enumerate(failed)]
    rest = "\n".join(text(seen))
    return "\n".join(parts) + f"\n<details><summary>As text</summary><pre>{escape(rest)}</pre></details></section>"


def _mistakes(seen):
    def bar(share):
        return (f'<span class="explains"><span class="bar" style="width: {5 * share:.2f}rem"></span> '
                f"{percent(share)}</span>")

    rows = [[f"<code>{escape(m.trap.flag)}</code>", bar(m.share), escape(m.convention), escape(m.trap.bug),
             escape(m.trap.effect), _linked(m.trap.source)] for m in seen.matches if m.share]
    columns = ["mistake", "explains", "convention", "what was done", "what it does", "seen in"]
    others = ", ".join(f"<code>{escape(m.trap.flag)}</code>" for m in seen.matches if not m.share)
    return ("<h3>Known mistakes, and how much of what is wrong each explains</h3>\n"
            + (_table(columns, rows) if rows else "") + (f"<p>Nothing of it: {others}.</p>" if others else ""))


def _case(result, outcome, is_open, room):
    """A failed case: its tensors that are wrong, in words and as pictures."""
    case = outcome.stored.case
    bad = [e for e in evidence(result, outcome) if not e.passed]
    parts = [f"<details{' open' * is_open}><summary>{escape(block(result, outcome)[0])}</summary>"]
    given = ", ".join([f"{n} {tuple(x.shape)}" for n, x in case.inputs.items()]
                      + [f"{n} = {v}" for n, v in (result.equation.attrs | case.attrs).items()])
    parts.append(f"<p>{escape(given)}</p>")
    for e in bad:
        parts += [f"<figure><figcaption><b>{escape(e.name)}</b>: {escape('; '.join(lines(e)))}</figcaption>"]
        if e.units is not None and room.takes(e.units.size):
            drawn = heat_map.maps(e, result.dtype, axes(result.equation, e.comparison.name),
                                  padding(result.equation, case, e.comparison.name))
            parts.append(f'<div class="wide">{drawn}</div>')
        elif e.units is not None:
            parts.append("<p>Not drawn: the page is large enough.</p>")
        parts.append("</figure>")
    return "\n".join(parts) + "</details>"


def _passed(seen, i):
    """What passes, case by case."""
    result = seen.result
    rows = [[escape(o.id), escape(o.stored.case.comment), o.status,
             "; ".join(f"{escape(c.name)} {times(c.error)}" for c in o.comparisons.get(result.convention, ())),
             escape(o.words)] for o in result.outcomes]
    return (f'<details id="e{i}"><summary>{_mark(seen)} {escape(heading(seen).partition(" ")[2])}</summary>\n'
            + _table(["case", "what it is", "", "error", ""], rows) + "</details>\n")


def _table(columns, rows, right=()):
    marks = [' class="right-aligned"' if i in right else "" for i in range(len(columns))]
    head = "".join(f'<th scope="col"{mark}>{name}</th>' for mark, name in zip(marks, columns))
    body = "".join("<tr>" + "".join(f"<td{mark}>{x}</td>" for mark, x in zip(marks, row)) + "</tr>\n" for row in rows)
    return f'<div class="wide"><table>\n<tr>{head}</tr>\n{body}</table></div>\n'


def _linked(words):
    """Escaped, with addresses as links, and names in code."""
    parts = re.split(r"(https?://[^\s<>\"')]+)", words)
    shown = "".join(f'<a href="{escape(p)}">{escape(p)}</a>' if i % 2 else escape(p) for i, p in enumerate(parts))
    return re.sub("`([^`]+)`", r"<code>\1</code>", shown)
