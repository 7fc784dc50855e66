"""A tensor as HTML tables: how wrong each entry is, on a logarithmic scale of what is allowed; small ones with numbers.

Each cell bears a sign beside its colour, and its numbers in a title, so that nothing is said by colour alone:

    ·    right                                      !    has to be exact, and is not
    n    wrong by 10^n times what is allowed        ×    not a finite number, where one is wanted
"""

from html import escape

import numpy as np

from tinydistill_reference.tolerance import C, UNITS
from tinydistill_reference.words import many, number, times

SMALL = 64                                          # entries of a tensor of which got and expected are shown, too
ROWS, COLUMNS, PANELS = 48, 48, 12                  # that there is room for
RIGHT, EXACT, NOT_FINITE = "·", "!", "×"
SHADES = ("#f2ea69", "#fbbe23", "#fa9407", "#ef6c23", "#d84c3e", "#b93556", "#972766", "#721a6e", "#4d0d6c", "#260c51")
ABOVE = ("#fee7d0", "#fdc38d", "#fd9344", "#f26b15")
BELOW = ("#dfecf7", "#b7d4ea", "#74b3d8", "#4493c7")
CSS = "\n".join([f".e{i} {{ background: {c}; color: {'#000' if i < 4 else '#fff'} }}" for i, c in enumerate(SHADES)]
                + [f".{sign}{i} {{ background: {c}; color: #000 }}" for sign, shades in (("p", ABOVE), ("m", BELOW))
                   for i, c in enumerate(shades)]) + """
.never { background: #000; color: #fff } .right { color: var(--soft) } .padding { outline: 1px dashed var(--soft) }
.map { display: inline-table; min-width: 4.5rem; margin: 0 1.5rem .75rem 0; border-collapse: separate;
  border-spacing: 1px; vertical-align: top }
.map caption { text-align: left; color: var(--soft); font-size: .8rem; white-space: nowrap }
.map th, .map td { min-width: 1.15rem; height: 1.15rem; padding: 0 .15rem; border: 0; text-align: center;
  vertical-align: middle; font: .75rem/1 ui-monospace, monospace } .map th { color: var(--soft) }
.map .number { text-align: right } .map .corner { text-align: left; font-style: italic; white-space: nowrap }"""


def maps(evidence, dtype, letters, padding=None):
    """All panels of a tensor that is wrong. letters: of its axes, () where they have none; padding: True there."""
    shape = evidence.units.shape
    letters = list(letters) if len(letters) == len(shape) else [f"axis {i}" for i in range(len(shape))]
    leading = list(np.ndindex(shape[:-2])) if len(shape) > 2 else [()]
    panels = [_panel(evidence, dtype, place, letters, padding) for place in leading[:PANELS]]
    if cut := len(leading) - PANELS:
        panels += [f"<p>{many(cut, 'more panel is', 'more panels are')} not shown.</p>"] if cut > 0 else []
    return "\n".join(panels)


def _panel(evidence, dtype, place, letters, padding):
    """The last two axes at one place of the others: the errors, and of a small tensor got and expected before them."""
    def two(x):
        return np.atleast_2d(x[place])                                              # (rows, columns)

    got, want, units = two(evidence.got), two(evidence.want), two(evidence.units)
    at_padding = np.zeros(units.shape, bool) if padding is None else two(padding)
    where = ", ".join(f"{letter} {i}" for letter, i in zip(letters, place))
    titles = [[_title(evidence, place, i, j, at_padding) for j in range(units.shape[1])] for i in range(units.shape[0])]
    axes = (["", ""] + letters)[-2:] if letters else ["", ""]
    tables = []
    if evidence.units.size <= SMALL:
        largest = max(_largest(got), _largest(want))
        tables = [(name, [[_value(v, largest) for v in row] for row in x])
                  for name, x in (("got", got), ("expected", want))]
    tables.append(("error", [[_error(u, g, dtype) for u, g in zip(*rows)] for rows in zip(units, got)]))
    return "".join(_table(f"{name}{' at ' * bool(where)}{where}", cells, titles, at_padding, axes)
                   for name, cells in tables)


def _title(evidence, place, i, j, at_padding):
    """The numbers of a cell."""
    index = {0: (), 1: (j,)}.get(evidence.units.ndim, (*place, i, j))
    u = evidence.units[index]
    size = "right" if u <= 1 else times(u) if np.isfinite(u) else "wrong"
    return (f"[{', '.join(map(str, index))}] got {number(evidence.got[index], 6)}, expected "
            f"{number(evidence.want[index], 6)}: {size}" + ", padding" * bool(at_padding[i, j]))


def _error(units, got, dtype):
    """(class, sign) of an error in units of what is allowed; the darkest shade is for one as large as the numbers."""
    if units <= 1:
        return "right", RIGHT
    if not np.isfinite(units):
        return "never", EXACT if np.isfinite(got) else NOT_FINITE
    power, of = int(np.log10(units)), np.log10(1 / (C * UNITS[dtype]))
    return f"e{min(len(SHADES) - 1, int((len(SHADES) - 1) * power / of))}", str(power)


def _value(x, largest):
    """(class, number): darker the larger it is, another colour below 0."""
    if not np.isfinite(x):
        return "never number", number(x)
    strength = int(np.ceil(4 * abs(x) / largest)) if largest else 0
    return f"number {'p' if x > 0 else 'm'}{strength - 1}" if strength else "number", number(x, 2)


def _largest(x):
    return float(np.abs(x[np.isfinite(x)]).max(initial=0))


def _table(caption, cells, titles, at_padding, axes):
    rows, columns = cells[:ROWS], range(min(COLUMNS, len(cells[0])))
    cut = [f"first {room} of {n} {what}" for n, room,
           what in ((len(cells), ROWS, "rows"), (len(cells[0]), COLUMNS, "columns"))
           if n > room]
    caption = ", ".join([caption, *cut])
    head = ""
    if len(cells[0]) > 1:
        corner = f"{axes[0]} ↓ {axes[1]} →" if len(cells) > 1 else f"{axes[1]} →"
        numbers = "".join(f'<th scope="col">{j}</th>' for j in columns)
        head = f'<tr><th class="corner">{escape(corner)}</th>{numbers}</tr>'
    body = ""
    for i, row in enumerate(rows):
        body += "<tr>" + (f'<th scope="row">{i if len(cells) > 1 else ""}</th>' if head else "")
        for j in columns:
            kind, sign = row[j]
            kind += " padding" * bool(at_padding[i, j])
            body += f'<td class="{kind}" title="{escape(titles[i][j])}">{sign}</td>'
        body += "</tr>\n"
    return f'<table class="map"><caption>{escape(caption)}</caption>\n{head}{body}</table>'


def legend():
    """What the signs and the colours mean."""
    cells = [("right", RIGHT, "right"), *((f"e{i}", "n" * (i == 0), "") for i in range(0, 9, 2)),
             ("e9", "n", "wrong by 10<sup>n</sup> times what is allowed"),
             ("never", EXACT, "has to be exact"), ("never", NOT_FINITE, "not a finite number"),
             ("padding", "", "padding")]
    shown = "".join(f'<td class="{kind}">{sign}</td><td class="words">{words}</td>' for kind, sign, words in cells)
    return f'<table class="map legend"><caption>How wrong each entry is</caption><tr>{shown}</tr></table>'
