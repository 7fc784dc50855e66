"""A run as one HTML page that needs nothing but itself: tables, loss curves, attention maps.

`paragraph`, `table`, `curves` and `attention_maps` return HTML, `page` sets it under headings, `write` keeps it;
`run_page` does all of this for a run directory. Pictures are SVG whose colours suit a light and a dark page.
"""

import contextlib
import io
import math
import re
import warnings
from html import escape
from pathlib import Path

from tinydistill.errors import Problem, WrongUsage
from tinydistill.safe_files import read_json
from tinydistill.training.disk import decode_json, in_one_line, write_atomically

BOOKKEEPING = ("loss", "gradient_norm", "learning_rate", "tokens_per_second", "seconds", "step")    # no loss terms
FROM_ZERO = ("learning_rate", "tokens_per_second")                 # never on a logarithmic axis
COLOURS = ("#0f7ac0", "#d55e00", "#009e73", "#c0689b")             # after Okabe and Ito: told apart by every eye
DASHES = ("solid", "dashed", "dotted")                             # the same words in matplotlib and in CSS
INK, GREY = "#0a63a8", "#8b939c"
STYLE = {"svg.fonttype": "none", "svg.hashsalt": "tinydistill", "text.parse_math": False, "font.size": 9,
         "axes.titlesize": 9, "axes.titlelocation": "left", "axes.edgecolor": GREY, "grid.color": GREY,
         "grid.alpha": 0.25, "xtick.major.size": 0, "ytick.major.size": 0}
CSS = """
:root { color-scheme: light dark; --page: #ffffff; --text: #1c2126; --soft: #5a6470; --rule: #dadee3 }
@media (prefers-color-scheme: dark) { image, figcaption b { filter: brightness(1.8) }
  :root { --page: #14171a; --text: #e3e6ea; --soft: #9aa4af; --rule: #353b43 } }
body { margin: 0 auto; max-width: 60rem; padding: 1.5rem 1rem 4rem; background: var(--page); color: var(--text);
       font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: break-word }
h1 { margin: 0; font-size: 1.6rem; line-height: 1.25 } h2 { margin: 2.5rem 0 .75rem; font-size: 1.15rem }
h3 { margin: 1.25rem 0 .25rem; font-size: 1rem } p { margin: .5rem 0; max-width: 42rem } .wide { overflow-x: auto }
table, figure { margin: .75rem 0; border-collapse: collapse; font-size: .9rem } th, figcaption { color: var(--soft) }
th, td { padding: .3rem 1.5rem .3rem 0; border-bottom: 1px solid var(--rule); text-align: left; vertical-align: top }
.number { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums }
figcaption span { display: inline-block; margin: 0 1.5rem .75rem 0; color: var(--text) }
figcaption i { display: inline-block; width: 1.75rem; margin-right: .5rem; border-top: .2rem; vertical-align: .25rem }
figcaption b { display: inline-block; width: 6rem; height: .75rem; background: linear-gradient(to right, #0000, INK) }
.panels { display: grid; gap: 1.25rem; grid-template-columns: repeat(auto-fill, minmax(min(20rem, 100%), 1fr)) }
svg { display: block; fill: currentColor; stroke-linejoin: round } .panels svg { width: 100%; height: auto }
""".replace("INK", INK)


def page(title, sections):
    """The whole page: `sections` are pairs (heading, html)."""
    body = "\n".join(f"<section><h2>{escape(heading)}</h2>\n{html}\n</section>" for heading, html in sections)
    parts = re.split(r"(<svg\b.*?</svg>)", body, flags=re.DOTALL)               # every other one is a picture
    body = "".join(_with_own_ids(part, i) if i % 2 else part for i, part in enumerate(parts))
    return ('<!DOCTYPE html><html lang="en"><meta charset="utf-8"/><meta name="viewport" content="width=device-width"/>'
            f"<title>{escape(title)}</title>\n<style>{CSS}</style>\n<h1>{escape(title)}</h1>\n{body}\n</html>\n")


def _with_own_ids(svg, number):
    """Every picture has an id `axes_1`: on a page each gets its number in front."""
    return re.sub(r"<[^>]+>", lambda tag: re.sub(r'(\bid="|href="#|url\(#)', rf"\1p{number}-", tag[0]), svg)


def write(path, html):
    """Keep the page, as a whole or not at all."""
    with in_one_line(f"write {path}"):
        write_atomically(Path(path), html.encode())


def paragraph(text):
    """The text as a paragraph."""
    return f"<p>{escape(text)}</p>"


def table(rows, columns, numeric=None):
    """Rows of dicts as a table: columns are keys, in order; `numeric` ones, by default those of numbers, end flush."""
    if numeric is None:
        numeric = [c for c in columns if all(isinstance(row.get(c), (int, float, type(None))) for row in rows)]
    marks = [' class="number"' if column in numeric else "" for column in columns]

    def line(tag, values):
        cells = (f"<{tag}{mark}>{escape(_shown(value))}</{tag}>" for mark, value in zip(marks, values))
        return f"<tr>{''.join(cells)}</tr>\n"

    lines = "".join(line("td", map(row.get, columns)) for row in rows)
    return f'<div class="wide"><table>\n{line("th", columns)}{lines}</table></div>'


def _shown(value):
    if isinstance(value, float):
        return f"{value:,.0f}" if 1000 <= abs(value) < 1e15 else f"{value:.4g}"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_shown, value))
    return "" if value is None else f"{value:,}" if type(value) is int else str(value)


@contextlib.contextmanager
def _drawing():
    """Matplotlib's Figure in our style, of which nothing outlives the block."""
    try:
        from matplotlib import figure, style
    except ImportError:
        raise Problem("the report needs matplotlib, which is not installed: pip install 'tinydistill[plot]'") from None
    with style.context(["default", STYLE]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from")              # the reader's browser will have it
        yield figure.Figure


def _svg(figure, label, **extent):
    """The figure as SVG without date, program and fonts: equal figures are equal text."""
    file = io.StringIO()
    figure.savefig(file, format="svg", transparent=True, **extent)
    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>| font-family: [^;\"]*;?", "", file.getvalue(), flags=re.S)
    return svg[svg.index("<svg"):].replace("<svg", f'<svg role="img" aria-label="{escape(label)}"', 1)


def curves(runs, keys=None):
    """Over the steps, a panel for each key, by default for each loss term; runs: {name: lines of metrics.jsonl}."""
    names = dict.fromkeys(name for lines in runs.values() for line in lines for name in line)
    keys = [name for name in names if name not in BOOKKEEPING] if keys is None else keys
    looks = {run: (COLOURS[i % 4], DASHES[i // 4 % 3]) for i, run in enumerate(runs)}
    legend = "".join(f'<span><i style="border-top-style: {dash}; border-color: {colour}"></i>{escape(run)}</span>'
                     for run, (colour, dash) in looks.items() if len(runs) > 1)
    panels = "\n".join(_panel(key, runs, looks) for key in keys)
    return f'<figure><figcaption>{legend}</figcaption>\n<div class="panels">\n{panels}\n</div></figure>'


def _panel(key, runs, looks):
    with _drawing() as Figure:
        figure = Figure((4.4, 2.4), layout="constrained")
        axes, values = figure.subplots(), []
        for run, (colour, dash) in looks.items():
            if points := [(line["step"], line[key]) for line in runs[run] if line.get(key) is not None]:
                axes.plot(*zip(*points), color=colour, ls=dash, lw=1.5, marker="o" if len(points) == 1 else "")
                values += [value for _, value in points]
        if not values:
            raise WrongUsage(f"no run has a metric {key}: {', '.join(runs) or 'there are none'}")
        axes.locator_params(nbins=5, steps=(1, 2, 5, 10))
        axes.locator_params(axis="x", integer=True, min_n_ticks=1)
        if key in FROM_ZERO:
            axes.set_ylim(bottom=0)
        elif 0 < 5 * min(values) < max(values):
            axes.set_yscale("log", subs=())
            axes.yaxis.get_major_locator().set_params(subs=(1, 2, 5))
        axes.yaxis.set_major_formatter("{x:,g}")
        axes.grid(axis="y")
        axes.spines[["left", "right", "top"]].set_visible(False)
        axes.set_title(key, weight="bold")
        axes.set_xlabel("step", loc="right")
        return _svg(figure, f"{key} over steps")


def attention_maps(tokens, maps):
    """The heads of each model side by side, one model under the other, all on one scale.

    Shapes: maps {name: (A, T, T)} for T tokens: a row is a query and sums to 1, a column is a key.
    """
    if wrong := {name: a.shape for name, a in maps.items() if a.shape[1:] != (len(tokens),) * 2}:
        raise WrongUsage(f"need maps (A, {len(tokens)}, {len(tokens)}) for {len(tokens)} tokens: {wrong}")
    largest = max(float(attention.max()) for attention in maps.values())
    rows = "\n".join(_heads(name, tokens, attention, largest) for name, attention in maps.items())
    return (f"<figure><figcaption>Each row is a token that looks, each column one that is looked at. Attention: "
            f'<span>0 <b></b> {largest:.2f}</span></figcaption>\n<div class="wide">\n{rows}\n</div></figure>')


def _heads(name, tokens, attention, largest):
    with _drawing() as Figure:
        from matplotlib.colors import LinearSegmentedColormap
        side, gap, A = max(1.6, 0.13 * len(tokens)), 0.06, len(attention)       # inches; a share of the side; heads
        figure = Figure((side * (A + gap * (A - 1)), side))
        figure.subplots_adjust(left=0, right=1, bottom=0, top=1, wspace=gap)
        ink = LinearSegmentedColormap.from_list("ink", [INK + "00", INK + "ff"])    # thin ink shows the page
        for head, axes in enumerate(figure.subplots(1, A, sharey=True, squeeze=False)[0]):
            axes.imshow(attention[head], cmap=ink, vmin=0, vmax=largest, interpolation="none")
            axes.set_xticks(range(len(tokens)), tokens, rotation=90, fontsize=8)
            axes.set_yticks(range(len(tokens)), tokens, fontsize=8)
            axes.set_title(f"head {head + 1}")
        return f"<h3>{escape(name)}</h3>\n" + _svg(figure, f"attention of {name}", bbox_inches="tight")


def read_metrics(path):
    """The lines of a metrics.jsonl as dicts. Raises: Problem that names the first line that is no metrics."""
    with in_one_line(f"read {path}"):
        lines = Path(path).read_bytes().splitlines()
    return [_metrics(line, f"{path}, line {number}") for number, line in enumerate(lines, 1)]


def _metrics(line, place):
    with contextlib.suppress(ValueError):
        metrics = decode_json(line)
        if isinstance(metrics, dict) and metrics.get("step") is not None and all(
                value is None or type(value) in (int, float) and math.isfinite(value) for value in metrics.values()):
            return metrics
    raise Problem(f"{place}: need finite numbers by name, step among them, got {line.decode(errors='replace'):.60}"
                  " (where a kill cut the line off, --resume repairs it)")


def run_page(directory):
    """The page of a run directory, finished or not: where it stands, its curves, and what was run."""
    directory = Path(directory)
    if not (directory / "run.json").is_file():
        raise WrongUsage(f"need a run directory: {directory} holds no run.json")
    run, lines = read_json(directory / "run.json"), read_metrics(directory / "metrics.jsonl")
    if not isinstance(run, dict) or not lines:
        raise Problem(f"{directory}: need settings by name in run.json and at least one logged step in metrics.jsonl")
    name, last, minutes = directory.resolve().name, lines[-1], sum(line.get("seconds") or 0 for line in lines) / 60
    state = (f"Finished: the model is in {directory}." if (directory / "model.safetensors").is_file() else
             "Not finished: the same command with --resume goes on from the newest checkpoint.")
    ends = {f"step {line['step']:,}": line for line in (lines[0], last)}
    numbers = [{"metric": metric} | {step: line.get(metric) for step, line in ends.items()}
               for metric in last if metric not in ("step", "seconds")]
    return page(f"tinydistill {run.get('command', 'run')}: {name}", [
        ("Where it stands", paragraph(f"{state} {last['step']:,} steps took {minutes:.2f} minutes.")
         + table(numbers, ["metric", *ends])),
        ("Loss terms", curves({name: lines})),
        ("How it ran", curves({name: lines}, [key for key in BOOKKEEPING[:4] if key in last])),
        ("What was run", table(list(_settings(run)), ["setting", "value"]))])


def _settings(run, prefix=""):
    """A nested dict as rows with dotted names."""
    for name, value in run.items():
        yield from (_settings(value, f"{prefix}{name}.") if isinstance(value, dict)
                    else [{"setting": prefix + name, "value": value}])
