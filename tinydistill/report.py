"""A run as one HTML page that needs nothing but itself: tables, loss curves, attention maps.

`paragraph`, `table`, `curves` and `attention_maps` return HTML, `page` sets it under headings, `write` keeps the page,
and `run_page` does all of this for a run directory. Pictures are SVG inside the page: their text is text and takes the
page's font and colour, and every other colour is chosen for a white and a black ground.
"""

import contextlib
import io
import itertools
import math
import re
import warnings
from html import escape
from pathlib import Path

import numpy as np

from tinydistill.errors import Problem, WrongUsage
from tinydistill.safe_files import read_json
from tinydistill.training.checkpoints import decode_json, in_one_line, newest, write_atomically

BOOKKEEPING = ("loss", "gradient_norm", "learning_rate", "tokens_per_second", "seconds", "step")    # no loss terms
FROM_ZERO = ("learning_rate", "tokens_per_second")                 # never on a logarithmic axis
COLOURS = ("#0f7ac0", "#d55e00", "#009e73", "#c0689b")             # after Okabe and Ito: told apart by every eye
DASHES = ("solid", "dashed", "dotted")                             # the same words in matplotlib and in CSS
INK, GREY = "#0a63a8", "#8b939c"
STYLE = {"svg.fonttype": "none", "svg.hashsalt": "tinydistill", "text.parse_math": False, "font.size": 9,
         "axes.titlesize": 9, "axes.titlelocation": "left", "axes.edgecolor": GREY, "grid.color": GREY,
         "grid.alpha": 0.25, "xtick.major.size": 0, "ytick.major.size": 0}
CSS = """
:root { color-scheme: light dark; --page: #ffffff; --text: #1c2126; --soft: #5a6470; --rule: #dadee3; --glow: none }
@media (prefers-color-scheme: dark) {
  :root { --page: #14171a; --text: #e3e6ea; --soft: #9aa4af; --rule: #353b43; --glow: brightness(1.8) } }
body { margin: 0 auto; max-width: 60rem; padding: 1.5rem 1rem 4rem; background: var(--page); color: var(--text);
       font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: break-word }
h1 { margin: 0; font-size: 1.6rem; line-height: 1.25 } h2 { margin: 2.5rem 0 .75rem; font-size: 1.15rem }
h3 { margin: 1.25rem 0 .25rem; font-size: 1rem } p { margin: .5rem 0; max-width: 42rem }
.wide { overflow-x: auto } figure { margin: .75rem 0 } figcaption { font-size: .9rem }
table { margin: .75rem 0; border-collapse: collapse; font-size: .9rem }
th, td { padding: .3rem 1.5rem .3rem 0; border-bottom: 1px solid var(--rule); text-align: left; vertical-align: top }
th, figcaption { color: var(--soft) }
.number { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums }
figcaption span { display: inline-block; margin: 0 1.5rem .75rem 0; color: var(--text) }
figcaption i { display: inline-block; width: 1.75rem; margin-right: .5rem; border-top: .2rem; vertical-align: .25rem }
figcaption b { display: inline-block; width: 6rem; height: .75rem; background: linear-gradient(to right, #0000, INK) }
image, figcaption b { filter: var(--glow) }
.panels { display: grid; gap: 1.25rem; grid-template-columns: repeat(auto-fill, minmax(min(20rem, 100%), 1fr)) }
.panels svg { width: 100%; height: auto }
svg { display: block; fill: currentColor; stroke-linejoin: round }
""".replace("INK", INK)


# ---------------------------------------------------------------- the page

def page(title, sections):
    """The whole page: `sections` are pairs (heading, html)."""
    body = "\n".join(f"<section>\n<h2>{escape(heading)}</h2>\n{html}\n</section>" for heading, html in sections)
    number = itertools.count(1)
    body = re.sub(r"<svg\b.*?</svg>", lambda svg: _with_own_ids(svg[0], next(number)), body, flags=re.DOTALL)
    return (f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<title>{escape(title)}</title>\n'
            f"<style>{CSS}</style>\n</head>\n<body>\n<h1>{escape(title)}</h1>\n{body}\n</body>\n</html>\n")


def _with_own_ids(svg, number):
    """Every picture has an id `axes_1`: on a page each gets its number in front."""
    return re.sub(r"<[^>]+>", lambda tag: re.sub(r'(\bid="|href="#|url\(#)', rf"\1p{number}-", tag[0]), svg)


def write(path, html):
    """Keep the page, as a whole or not at all."""
    with in_one_line(f"write {path}"):
        write_atomically(Path(path), html.encode())


def paragraph(text):
    return f"<p>{escape(text)}</p>"


def table(rows, columns, numeric=None):
    """Rows of dicts as a table. Columns are keys, in order; `numeric` ones, if not named those of numbers, end flush.

    >>> table([{"model": "2x64", "AUC": 0.695}], ["model", "AUC"]).splitlines()[2]
    '<tr><td>2x64</td><td class="number">0.695</td></tr>'
    """
    if numeric is None:
        numeric = [c for c in columns if all(isinstance(row.get(c), (int, float, type(None))) for row in rows)]
    marks = [' class="number"' if column in numeric else "" for column in columns]

    def line(tag, values):
        cells = (f"<{tag}{mark}>{escape(_shown(value))}</{tag}>" for mark, value in zip(marks, values))
        return f"<tr>{''.join(cells)}</tr>"

    lines = [line("th", columns), *(line("td", map(row.get, columns)) for row in rows)]
    return '<div class="wide"><table>\n' + "\n".join(lines) + "\n</table></div>"


def _shown(value):
    if isinstance(value, float):
        return f"{value:,.0f}" if 1000 <= abs(value) < 1e15 else f"{value:.4g}"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_shown, value))
    return "" if value is None else f"{value:,}" if type(value) is int else str(value)


# ---------------------------------------------------------------- pictures

@contextlib.contextmanager
def _drawing():
    """Matplotlib's Figure in our style, of which nothing outlives the block."""
    try:
        from matplotlib import style
        from matplotlib.figure import Figure
    except ImportError:
        raise Problem("the report needs matplotlib, which is not installed: pip install 'tinydistill[plot]'") from None
    with style.context(["default", STYLE]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")         # the reader's browser will have it
        yield Figure


def _svg(figure, label):
    """The figure as SVG without date, program and fonts: equal figures are equal text."""
    file = io.StringIO()
    figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>| font-family: [^;\"]*;?", "", file.getvalue(), flags=re.S)
    return svg[svg.index("<svg"):].replace("<svg", f'<svg role="img" aria-label="{escape(label)}"', 1)


def curves(runs, keys=None):
    """A panel for each key, by default for each loss term, over the steps; in it a line for each run that has the key.

    runs: {name: lines of metrics.jsonl as dicts}.
    """
    names = dict.fromkeys(name for lines in runs.values() for line in lines for name in line)
    keys = [name for name in names if name not in BOOKKEEPING] if keys is None else keys
    if missing := [key for key in keys if key not in names]:
        raise WrongUsage(f"no run has a metric {missing[0]}; they have {', '.join(names) or 'none'}")
    looks = {run: (COLOURS[i % 4], DASHES[i // 4 % 3]) for i, run in enumerate(runs)}
    legend = "".join(f'<span><i style="border-top-style: {dash}; border-color: {colour}"></i>{escape(run)}</span>'
                     for run, (colour, dash) in looks.items() if len(runs) > 1)
    panels = "\n".join(_panel(key, runs, looks) for key in keys)
    return f'<figure>\n<figcaption>{legend}</figcaption>\n<div class="panels">\n{panels}\n</div>\n</figure>'


def _panel(key, runs, looks):
    with _drawing() as Figure:
        from matplotlib import ticker
        figure = Figure((4.4, 2.4), layout="constrained")
        axes, values = figure.subplots(), []
        for run, (colour, dash) in looks.items():
            if points := [(line["step"], line[key]) for line in runs[run] if key in line]:
                axes.plot(*zip(*points), color=colour, ls=dash, lw=1.5, marker="o" if len(points) == 1 else "")
                values += [value for _, value in points]
        if key in FROM_ZERO:
            axes.set_ylim(bottom=0)
        elif 0 < 5 * min(values) < max(values):
            axes.set_yscale("log")
        decades = ticker.LogLocator(subs=(1, 2, 5))
        even = ticker.MaxNLocator(5, steps=(1, 2, 5, 10))
        axes.yaxis.set_major_locator(decades if axes.get_yscale() == "log" else even)
        axes.yaxis.set_minor_locator(ticker.NullLocator())
        axes.xaxis.set_major_locator(ticker.MaxNLocator(5, steps=(1, 2, 5, 10), integer=True))
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter("{x:,g}")
        axes.grid(axis="y")
        axes.spines[["left", "right", "top"]].set_visible(False)
        axes.set_title(key, weight="bold")
        axes.set_xlabel("step", loc="right")
        return _svg(figure, f"{key} over steps")


def attention_maps(tokens, maps):
    """The heads of each model side by side, one model under the other, all on one scale.

    Shapes: maps {name: (A, T, T)} for T tokens: a row is a query and sums to 1, a column is a key.
    """
    T = len(tokens)
    for name, attention in maps.items():
        if attention.ndim != 3 or attention.shape[1:] != (T, T):
            raise WrongUsage(f"need maps (A, {T}, {T}) for {T} tokens: {name} {attention.shape}")
    largest = max(float(attention.max()) for attention in maps.values())
    rows = "\n".join(f"<h3>{escape(name)}</h3>\n{_heads(name, tokens, attention, largest)}"
                     for name, attention in maps.items())
    return (f"<figure>\n<figcaption>Each row is a token that looks, each column one that is looked at. Attention: "
            f'0 <b></b> {largest:.2f}</figcaption>\n<div class="wide">\n{rows}\n</div>\n</figure>')


def _heads(name, tokens, attention, largest):
    with _drawing() as Figure:
        from matplotlib.colors import LinearSegmentedColormap, to_rgba
        side, letters = max(1.6, 0.13 * len(tokens)), 0.075 * max(map(len, tokens))         # inches
        figure = Figure((letters + len(attention) * (side + 0.1), side + letters + 0.3), layout="constrained")
        ink = LinearSegmentedColormap.from_list("ink", [to_rgba(INK, 0), to_rgba(INK, 1)])  # thin ink shows the page
        for head, axes in enumerate(figure.subplots(1, len(attention), sharey=True, squeeze=False)[0]):
            axes.imshow(attention[head], cmap=ink, vmin=0, vmax=largest, interpolation="none")
            axes.set_xticks(range(len(tokens)), tokens, rotation=90, fontsize=8)
            axes.set_yticks(range(len(tokens)), tokens, fontsize=8)
            axes.set_title(f"head {head + 1}")
        return _svg(figure, f"attention of {name}")


# ---------------------------------------------------------------- a run directory

def read_metrics(path):
    """The lines of a metrics.jsonl as dicts of numbers. Raises: Problem that names the first line that is none."""
    with in_one_line(f"read {path}"):
        lines = Path(path).read_bytes().splitlines()
    if not lines:
        raise Problem(f"{path} is empty: the run has logged no step yet")
    return [_metrics(line, f"{path}, line {number}") for number, line in enumerate(lines, 1)]


def _metrics(line, place):
    try:
        metrics = decode_json(line)
    except ValueError:
        raise Problem(f"{place} is cut off or damaged; where a kill cut it off, --resume repairs it") from None
    if not isinstance(metrics, dict) or "step" not in metrics:
        raise Problem(f"{place}: need a step and metrics by name, got {str(metrics):.60}")
    for name, value in metrics.items():
        if type(value) not in (int, float) or not math.isfinite(value):
            raise Problem(f"{place}: need a finite number for {name}, got {value!r:.60}")
    return metrics


def run_page(directory):
    """The page of a run directory, finished or not: where it stands, its curves, and what was run."""
    directory = Path(directory)
    if not (directory / "run.json").is_file():
        raise WrongUsage(f"need a run directory: {directory} holds no run.json")
    run, lines = read_json(directory / "run.json"), read_metrics(directory / "metrics.jsonl")
    if not isinstance(run, dict):
        raise Problem(f"{directory / 'run.json'} needs settings by name, got {str(run):.60}")
    name = directory.resolve().name
    ends = {f"step {line['step']:,}": line for line in (lines[0], lines[-1])}
    numbers = [{"metric": metric, **{step: line.get(metric) for step, line in ends.items()}}
               for metric in lines[-1] if metric not in ("step", "seconds")]
    return page(f"tinydistill {run.get('command', 'run')}: {name}", [
        ("Where it stands", paragraph(_state(directory, lines)) + table(numbers, ["metric", *ends])),
        ("Loss terms", curves({name: lines})),
        ("How it ran", curves({name: lines}, [key for key in BOOKKEEPING[:4] if key in lines[-1]])),
        ("What was run", table(list(_settings(run)), ["setting", "value"]))])


def _state(directory, lines):
    done = f"{lines[-1]['step']:,} steps took {sum(line.get('seconds', 0) for line in lines) / 60:.1f} minutes"
    if (directory / "model.safetensors").is_file():
        return f"Finished: {done}. The model is in {directory}."
    saved = newest(directory / "checkpoints")
    return (f"Not finished: {done}. The same command with --resume goes on "
            + ("from the start: no checkpoint is saved." if saved is None else f"from the checkpoint of step {saved:,}."))


def _settings(run, prefix=""):
    """A nested dict as rows of settings with dotted names."""
    for name, value in run.items():
        if isinstance(value, dict):
            yield from _settings(value, f"{prefix}{name}.")
        else:
            yield {"setting": prefix + name, "value": value}
