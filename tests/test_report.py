import argparse
import base64
import io
import json
import re
import subprocess
import sys
from xml.etree import ElementTree

import numpy as np
import pytest

from tinydistill import report
from tinydistill.commands import report as command
from tinydistill.errors import Problem, WrongUsage

SVG, LINK = "{http://www.w3.org/2000/svg}", "{http://www.w3.org/1999/xlink}href"
BLUE, ORANGE = (f"stroke: {colour}" for colour in report.COLOURS[:2])


def logged(steps=40, attention=0.4):
    """Lines of metrics.jsonl as the training loop writes them, with both terms falling tenfold."""
    return [{"step": 10 * i, "minilm.attention": attention * fall, "minilm.values": 0.5 * fall, "loss": fall,
             "learning_rate": 0.002 * (1 - i / steps), "gradient_norm": 1 + fall, "tokens_per_second": 11000.0,
             "seconds": 1.5} for i in range(1, steps + 1) for fall in [0.1 ** (i / steps)]]


def series(*values, key="term"):
    return [{"step": i, key: value} for i, value in enumerate(values)]


def parsed(html, title="t", heading="h"):
    """The page that holds `html`, as a tree: whatever is not closed, or not escaped, fails here."""
    return ElementTree.fromstring(report.page(title, [(heading, html)]))


def texts(tree, tag):
    return ["".join(element.itertext()) for element in tree.iter(tag)]


def heights(svg, style):
    """The y coordinates of the line drawn in `style`, from left to right."""
    path, = [e for e in svg.iter(SVG + "path") if style in e.get("style", "") and e.get("clip-path")]
    return [float(y) for _, y in re.findall(r"[ML] (\S+) (\S+)", path.get("d"))]


def log(directory, lines):
    (directory / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


@pytest.fixture
def run(tmp_path):
    directory = tmp_path / "minilm-2x64"
    directory.mkdir()
    settings = {"command": "distill", "teacher": "<b>runs & co</b>", "labels": ["no", "yes"], "data": None,
                "rows": 18000, "recipe": {"steps": 400, "learning_rate": 0.002}}
    (directory / "run.json").write_text(json.dumps(settings))
    log(directory, logged())
    return directory


def carry_out(directory):
    parser = argparse.ArgumentParser()
    command.arguments(parser)
    return command.run(parser.parse_args([str(directory)]))


def test_a_page_is_whole_and_needs_nothing_but_itself():
    pictures = report.curves({"a": logged(), "b": logged()}) + report.attention_maps(["a"], {"m": np.ones((2, 1, 1))})
    page = parsed(pictures + report.paragraph("2 < 3 & <script>alert(1)</script>"), title="A < B", heading="x & y")
    assert texts(page, "title") == texts(page, "h1") == ["A < B"] and texts(page, "h2") == ["x & y"]
    assert texts(page, "p") == ["2 < 3 & <script>alert(1)</script>"]
    tags = {element.tag.replace(SVG, "") for element in page.iter()}
    assert not tags & {"script", "link", "iframe", "object", "embed", "img"} and {"svg", "image", "style"} <= tags
    html = report.page("t", [("h", pictures)])
    assert set(re.findall(r"https?://[^\"'\s)]+", html)) == {SVG[1:-1], LINK[1:-5]}          # names, never fetched
    assert not re.search(r"@import|\ssrc=", html) and "@media (prefers-color-scheme: dark)" in html


def test_ids_are_unique_even_of_equal_pictures_and_every_reference_leads_somewhere():
    words = ["url(#x)", 'id="x"', 'href="#']
    page = parsed(report.curves({"a": logged(1)}) * 2 + report.attention_maps(words, {"m": np.eye(3)[None]}))
    assert set(words) <= set(texts(page, SVG + "text"))                                     # text is left alone
    ids = [element.get("id") for element in page.iter() if element.get("id")]
    assert len(ids) > 20 and len(ids) == len(set(ids))
    links = [element.get(LINK) for element in page.iter(SVG + "use")]
    clips = [element.get("clip-path")[4:-1] for element in page.iter() if element.get("clip-path")]
    assert links and clips and all(link[0] == "#" and link[1:] in ids for link in links + clips)


def test_cells_are_short_and_columns_of_numbers_stand_flush_right_unless_named_otherwise():
    cells = [(0.695, "0.695"), (0.00033333333, "0.0003333"), (12345.678, "12,346"), (-2500.5, "-2,500"),
             (3e20, "3e+20"), (530176, "530,176"), (None, ""), ("6 ± 1", "6 ± 1"), ([1000, "a"], "1,000, a")]
    rows = [{"value": value, "number": 1.0} for value, _ in cells[:-1]] + [{"value": cells[-1][0]}]

    def classes(**named):
        page = parsed(report.table(rows, ["value", "number"], **named))
        assert texts(page, "th") == ["value", "number"] and texts(page, "td")[::2] == [shown for _, shown in cells]
        return {tuple(cell.get("class") for cell in line) for line in page.iter("tr")}

    assert classes() == {(None, "number")} and classes(numeric=["value"]) == {("number", None)}


def test_write_replaces_the_page_as_a_whole_or_not_at_all(tmp_path, monkeypatch):
    def fail(descriptor):
        raise OSError(5, "Input/output error")

    path = tmp_path / "report.html"
    for text in ("first", "second – ±"):
        report.write(path, text)
        assert list(tmp_path.iterdir()) == [path]
    with monkeypatch.context() as disk, pytest.raises(Problem, match="cannot write .*report.html: Input/output error"):
        disk.setattr("os.fsync", fail)
        report.write(path, "third")
    assert path.read_text(encoding="utf-8") == "second – ±"


def test_curves_draw_one_panel_a_term_and_one_line_a_run():
    page = parsed(report.curves({"a": logged(), "b < c": logged(attention=0.8)}))
    assert texts(page, "span") == ["a", "b < c"]                                            # the legend
    panels = list(page.iter(SVG + "svg"))
    assert [texts(svg, SVG + "text")[-1] for svg in panels] == ["minilm.attention", "minilm.values"]
    a, b = heights(panels[0], BLUE), heights(panels[0], ORANGE)
    assert len(a) == len(b) == 40
    assert all(low > high for high, low in zip(a, a[1:]))                                   # falls: y grows downwards
    assert all(above < below for above, below in zip(b, a))                                 # twice the loss is higher


def test_a_run_without_a_term_is_left_out_of_its_panel_and_keeps_its_colour():
    html = report.curves({"mlm": series(7.0, 6.0, key="masked_lm"), "minilm": logged()})
    masked, attention, _ = parsed(html).iter(SVG + "svg")
    assert len(heights(masked, BLUE)) == 2 and len(heights(attention, ORANGE)) == 40
    assert BLUE not in ElementTree.tostring(attention, "unicode")
    with pytest.raises(WrongUsage, match="no run has a metric minilm.keys: a, b"):
        report.curves({"a": logged(), "b": logged()}, ["minilm.attention", "minilm.keys"])


def test_an_axis_is_logarithmic_where_a_loss_falls_far_and_ticks_are_few_and_round():
    def drawn(*values, key="term"):
        page = parsed(report.curves({"a": series(*values, key=key)}, [key]))
        y = heights(page, BLUE)
        return np.diff(y) / (y[-1] - y[0]), texts(page, SVG + "text")

    far, near = (1000.0, 100.0, 10.0, 1.0), (4.0, 3.0, 2.0, 1.0)
    steps, ticks = drawn(*far)
    np.testing.assert_allclose(steps, 1 / 3, atol=1e-4)                                     # straight on a log axis
    assert {"1", "10", "100", "1,000"} <= set(ticks)
    assert {"0.05", "0.1", "0.2"} <= set(drawn(0.4, 0.2, 0.1, 0.04)[1])                     # within one decade, too
    steps, ticks = drawn(*near)
    np.testing.assert_allclose(steps, 1 / 3, atol=1e-4)                                     # straight on a linear one
    assert ticks == ["0", "1", "2", "3", "step", "1", "2", "3", "4", "term"]
    for steps, _ in (drawn(*far, key="learning_rate"), drawn(500.0, -400.0, -490.0, -499.0)):
        np.testing.assert_allclose(steps, [900 / 999, 90 / 999, 9 / 999], atol=1e-3)        # these on a linear one
    assert "0" in drawn(11000.0, 11500.0, 11200.0, key="tokens_per_second")[1][4:]          # from zero


def test_one_line_of_metrics_is_a_dot_and_one_run_needs_no_legend():
    page = parsed(report.curves({"a": logged(1)}, ["minilm.attention"]))
    assert texts(page, "span") == [] and [BLUE in e.get("style", "") for e in page.iter(SVG + "use")].count(True) == 1
    assert texts(page, SVG + "text")[:2] == ["10", "step"]                                  # one tick


def test_twelve_runs_are_told_apart():
    html = report.curves({f"run {i}": series(i + 1.0, i + 0.9) for i in range(12)})
    drawn = re.findall(r"fill: none; (stroke-dasharray[^;]*; )?.*?stroke: (#\w{6})", html)
    assert len({(dash, colour) for dash, colour in drawn if colour in report.COLOURS}) == 12
    assert len(set(re.findall(r"border-top-style: \w+; border-color: #\w+", html))) == 12


def test_attention_is_the_opacity_of_its_cell_on_one_scale_for_all_models():
    from PIL import Image
    teacher, student = np.random.default_rng(0).random((2, 3, 5, 5)) * np.array([0.8, 0.4])[:, None, None, None]
    page = parsed(report.attention_maps(list("abcde"), {"teacher": teacher, "student": student}))
    images = list(page.iter(SVG + "image"))
    assert len(images) == 6
    for image, attention in zip(images, [*teacher, *student]):
        a, _, _, d = re.match(r"matrix\((\S+) (\S+) (\S+) (\S+) ", image.get("transform")).groups()
        assert float(a) > 0 and float(d) > 0                                                # the first row is on top
        png = Image.open(io.BytesIO(base64.b64decode(image.get(LINK).removeprefix("data:image/png;base64,"))))
        assert png.size == (5, 5)
        np.testing.assert_allclose(np.asarray(png)[..., 3] / 255, attention / teacher.max(), atol=1 / 128)
    assert texts(page, "span") == [f"0  {teacher.max():.2f}"]
    assert texts(page, "h3") == ["teacher", "student"]                                      # teacher above student


def test_tokens_stand_on_both_axes_and_mean_nothing_to_html_tex_or_fonts():
    tokens = ["[CLS]", "##med", "$x$", "<s>", "&amp;", "\\frac", "-->", "中", "'\""]
    page = parsed(report.attention_maps(tokens, {"$m$ & <n>": np.full((2, 9, 9), 1 / 9)}))
    letters = texts(page, SVG + "text")
    assert [letters.count(token) for token in tokens] == [3] * 9                            # below two heads, left once
    assert letters.count("head 1") == letters.count("head 2") == 1
    assert texts(page, "h3") == ["$m$ & <n>"]
    assert page.find(f".//{SVG}svg").get("aria-label") == "attention of $m$ & <n>"


def test_no_label_leaves_the_picture_and_panels_of_different_models_are_equally_large():
    maps = {"2": np.full((2, 3, 3), 1 / 3), "4": np.full((4, 3, 3), 1 / 3)}
    page = parsed(report.attention_maps(["[CLS]", "W" * 30, "[SEP]"], maps))
    for svg in page.iter(SVG + "svg"):
        _, top, _, height = map(float, svg.get("viewBox").split())
        feet = re.findall(r'translate\(\S+ (\S+)\) rotate\(-90\)">W', ElementTree.tostring(svg, "unicode"))
        assert feet and max(map(float, feet)) <= top + height
    sizes = [image.get("transform").split(" ")[0] for image in page.iter(SVG + "image")]
    assert len(sizes) == 6 and len(set(sizes)) == 1


def test_maps_that_do_not_fit_the_tokens_are_named():
    maps = {"teacher": np.zeros((2, 3, 3)), "student": np.zeros((2, 4, 4)), "one head": np.zeros((3, 3))}
    with pytest.raises(WrongUsage, match=re.escape("for 3 tokens: {'student': (2, 4, 4), 'one head': (3, 3)}")):
        report.attention_maps(["a", "b", "c"], maps)


def test_equal_numbers_are_equal_bytes_in_every_process_and_nothing_is_left_behind():
    script = ("import sys, numpy as np\n"
              "from tinydistill import report\n"
              "assert 'matplotlib' not in sys.modules, 'imported too early'\n"
              "html = report.curves({'a': [{'step': 1, 'term': 2.0}, {'step': 2, 'term': 1.0}]})\n"
              "html += report.attention_maps(['a', '中'], {'m': np.eye(2)[None]})\n"
              "import matplotlib\n"
              "assert 'matplotlib.pyplot' not in sys.modules, 'pyplot keeps global state'\n"
              "assert matplotlib.rcParams == matplotlib.rcParamsOrig, 'a style was left behind'\n"
              "sys.stdout.buffer.write(report.page('t', [('h', html)]).encode())\n")
    done = [subprocess.run([sys.executable, "-c", script], check=True, capture_output=True) for _ in range(2)]
    assert [run.stderr for run in done] == [b"", b""]                                       # no warnings about fonts
    assert done[0].stdout == done[1].stdout and done[0].stdout.count(b"<svg") == 2
    assert not re.search(rb"Matplotlib v|<metadata|dc:date|font-family: '", done[0].stdout)


def test_a_reader_s_own_style_changes_nothing_and_missing_matplotlib_is_one_line(monkeypatch):
    import matplotlib
    plain = report.curves({"a": logged()})
    with matplotlib.rc_context({"axes.facecolor": "red", "xtick.labelsize": 30, "text.color": "red"}):
        assert report.curves({"a": logged()}) == plain
    assert len(re.findall(rf"stroke: {report.GREY}; stroke-opacity: 0.25", plain)) >= 6     # a grid, in grey
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(Problem, match=r"^the report needs matplotlib.*pip install 'tinydistill\[plot\]'$"):
        report.curves({"a": logged()})


def test_the_command_writes_the_page_of_a_run(run):
    result = carry_out(run)
    assert result == {"report": str(run / "report.html")} and result["report"] in command.text(result)
    page = ElementTree.parse(run / "report.html").getroot()
    assert texts(page, "h1") == ["tinydistill distill: minilm-2x64"]
    assert texts(page, "h2") == ["Where it stands", "Loss terms", "How it ran", "What was run"]
    assert [svg.get("aria-label").removesuffix(" over steps") for svg in page.iter(SVG + "svg")] == [
        "minilm.attention", "minilm.values", "loss", "gradient_norm", "learning_rate", "tokens_per_second"]
    numbers, settings = ([texts(line, "td") for line in table.iter("tr")][1:] for table in page.iter("table"))
    assert texts(page, "th") == ["metric", "step 10", "step 400", "setting", "value"]
    assert numbers[0] == ["minilm.attention", "0.3776", "0.04"] and len(numbers) == 6
    assert settings == [["command", "distill"], ["teacher", "<b>runs & co</b>"], ["labels", "no, yes"], ["data", ""],
                        ["rows", "18,000"], ["recipe.steps", "400"], ["recipe.learning_rate", "0.002"]]


def test_the_page_says_whether_the_run_is_finished_and_a_run_of_one_line_can_be_read(run):
    log(run, [{"step": 10, "minilm.attention": 0.04}])
    page = ElementTree.fromstring(report.run_page(run))
    assert texts(page, "th")[:2] == ["metric", "step 10"] and texts(page, "td")[:2] == ["minilm.attention", "0.04"]
    assert texts(page, "p")[0].startswith("Not finished: ") and "--resume" in texts(page, "p")[0]
    (run / "model.safetensors").touch()
    state, = texts(ElementTree.fromstring(report.run_page(run)), "p")
    assert state == f"Finished: the model is in {run}. 10 steps took 0.00 minutes."


def test_a_number_that_was_not_finite_is_null_in_the_metrics_and_left_out_of_the_curve(run):
    lines = logged()
    lines[1] |= {"minilm.values": None, "seconds": None}
    log(run, lines)
    page = ElementTree.fromstring(report.run_page(run))
    assert texts(page, "p")[0].endswith("400 steps took 0.97 minutes.")
    assert [len(heights(svg, BLUE)) for svg in page.iter(SVG + "svg")][:2] == [40, 39]


@pytest.mark.parametrize("line", [
    b'{"step": 30, "lo', b"[1, 2]", b'{"loss": 1.0}', b'{"step": 30, "loss": NaN}', b'{"step": 30, "loss": "low"}',
    b'{"step": true}', b'{"step": null}', b"", b'{"step": 1' + b"0" * 400 + b"}", b"[" * 10000, b"\xff\xfe\x00{}"])
def test_damaged_metrics_are_one_line_that_names_the_place(run, line):
    log(run, logged(2))
    with open(run / "metrics.jsonl", "ab") as file:
        file.write(line + b'\n{"step": 40}\n')
    with pytest.raises(Problem, match="metrics.jsonl, line 3: need finite numbers by name, step among them") as problem:
        carry_out(run)
    assert "\n" not in str(problem.value) and len(str(problem.value)) < 400
    assert line.decode(errors="replace")[:20] in str(problem.value)
    assert not (run / "report.html").exists()


@pytest.mark.parametrize("name, data, code, reason", [
    ("metrics.jsonl", "", 1, "at least one logged step in metrics.jsonl"), ("run.json", "[]", 1, "settings by name"),
    ("metrics.jsonl", None, 1, "cannot read .*metrics.jsonl: No such"), ("run.json", "{", 1, "cannot read .*run.json"),
    ("run.json", None, 2, "holds no run.json")])
def test_what_is_missing_or_damaged_is_named_and_an_earlier_page_is_kept(run, name, data, code, reason):
    (run / "report.html").write_text("before")
    (run / name).write_text(data) if data is not None else (run / name).unlink()
    with pytest.raises(Problem, match=reason) as problem:
        carry_out(run)
    assert problem.value.exit_code == code and "\n" not in str(problem.value)
    assert (run / "report.html").read_text() == "before"
    with pytest.raises(WrongUsage, match="need a run directory: there is no directory .*elsewhere"):
        carry_out(run / "elsewhere")
