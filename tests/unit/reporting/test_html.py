"""A report is one file that needs nothing else."""

import base64
import re
from html.parser import HTMLParser
from pathlib import Path

from mtl_ray.reporting.figures import new_figure
from mtl_ray.reporting.html import Page


class _Reader(HTMLParser):
    """Tags with their attributes, and the texts between them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def _page() -> Page:
    page = Page("Tasks & <b>titles</b>")
    page.heading("<script>alert(1)</script>")
    page.text("5 < 6 & 'so on'")
    page.table(["name", "value", "rows"], [["<i>a</i>", "0.5", "1,000"], ["b", "-", ""]])
    figure = new_figure(3, 2)
    figure.subplots().plot([0, 1], [1, 0])
    page.figure(figure, 'a "line" <falls>')
    return page


def test_texts_are_shown_as_they_are():
    page = _Reader(_page().html())
    for text in (
        "Tasks & <b>titles</b>",
        "<script>alert(1)</script>",
        "5 < 6 & 'so on'",
        "<i>a</i>",
        'a "line" <falls>',
    ):
        assert text in page.texts
    assert not {"script", "i", "b"} & {tag for tag, _ in page.tags}


def test_nothing_is_loaded_from_elsewhere():
    html = _page().html()
    sources = [
        value for _, attributes in _Reader(html).tags for name, value in attributes.items() if name in ("src", "href")
    ]
    assert len(sources) == 1
    assert all(source and source.startswith("data:image/") for source in sources)
    assert "url(" not in html
    assert "@import" not in html


def test_a_figure_is_a_drawing_with_its_caption_for_the_blind():
    (image,) = [attributes for tag, attributes in _Reader(_page().html()).tags if tag == "img"]
    assert image["alt"] == 'a "line" <falls>'
    drawing = base64.b64decode((image["src"] or "").partition("base64,")[2])
    assert b"<svg" in drawing
    assert drawing.rstrip().endswith(b"</svg>")


def test_columns_of_numbers_are_set_to_the_right():
    cells = [attributes.get("class") for tag, attributes in _Reader(_page().html()).tags if tag in ("th", "td")]
    assert cells == [None, "number", "number"] * 3


def test_equal_pages_are_equal_files(tmp_path: Path):
    for name in ("a.html", "b.html"):
        _page().write(tmp_path / name)
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["a.html", "b.html"]
    assert re.search(r'name="viewport" content="width=device-width', (tmp_path / "a.html").read_text())
