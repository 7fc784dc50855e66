"""The page of a verification: whole, safe, and readable without colours."""

from html.parser import HTMLParser

import numpy as np

from tinydistill_reference import html
from verified import ATTENTION, CLASSES, changed, failing, with_trap


class Checked(HTMLParser):
    """Collects the cells, and whether tags are closed in the order in which they were opened."""

    EMPTY = ("meta", "br")

    def __init__(self, page):
        super().__init__()
        self.open, self.tags, self.links, self.cells, self.ids = [], [], [], [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.tags.append(tag)
        self.links += [attrs[k] for k in ("href", "src") if k in attrs]
        self.ids += [attrs[k] for k in ("id",) if k in attrs]
        if tag == "td" and "title" in attrs:
            self.cells.append((attrs.get("class", ""), attrs["title"]))
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_needs_nothing_but_itself():
    page = html.page(failing())
    seen = Checked(page)
    assert seen.open == [] and not {"script", "link", "img", "b-bad"} & set(seen.tags)
    assert all(link.startswith(("#", "https://github.com/")) for link in seen.links)
    assert {link[1:] for link in seen.links if link.startswith("#")} <= set(seen.ids)
    assert "<b>bad" not in page and "&lt;b&gt;bad" in page and "url(" not in page and "@import" not in page
    assert "1 of 5 checks passes" in page and "<code>T_not_T2</code>" in page
    assert page.count("<section") == 4 and "100 %" in page


def test_a_small_tensor_is_shown_as_got_expected_and_error():
    page = html.page([with_trap(CLASSES, "T_not_T2")])
    cells = Checked(page).cells
    assert page.count("<caption>got</caption>") == page.count("<caption>expected</caption>") == page.count(
        "<caption>error</caption>") == 6                              # value and gradient of three cases
    assert any(title.startswith("[0, 0] got ") and "x allowed" in title for _, title in cells)
    assert {kind for kind, _ in cells} & {"e3", "e4", "e5", "e6", "e7", "e8"}
    assert len(cells) == 3 * 3 * (55 + 1)


def test_higher_axes_are_unrolled_and_padding_is_marked():
    def leaks(got, inputs, attrs):
        wrong = got["dstudent_queries"].copy()
        wrong[~np.broadcast_to(inputs["mask"][:, None], (3, 2, 7))] = np.nan
        return got | {"dstudent_queries": wrong}
    page = html.page([changed(ATTENTION, leaks)])
    cells = Checked(page).cells
    for b in range(3):
        assert f"<caption>error at B {b}, A 1</caption>" in page
    assert "T ↓ K →" in page and "<caption>got" not in page
    bad = [(kind, title) for kind, title in cells if "got nan" in title]
    assert bad and all(kind == "never padding" and title.endswith("wrong, padding") for kind, title in bad)
    assert all(kind.startswith("right") for kind, title in cells if "got nan" not in title)


def test_a_large_page_says_what_it_leaves_out(monkeypatch):
    monkeypatch.setattr(html, "ENTRIES", 60)
    page = html.page([with_trap(CLASSES, "T_not_T2")])
    assert "Not drawn: the page is large enough." in page and len(Checked(page).cells) == 3 * (1 + 55 + 1)
