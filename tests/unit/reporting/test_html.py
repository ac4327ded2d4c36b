"""A report is one file that needs nothing else."""

import base64
import re
import tomllib
from html.parser import HTMLParser
from pathlib import Path

from mtl_ray.reporting import html
from mtl_ray.reporting.figures import new_figure
from mtl_ray.reporting.html import HtmlReport


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


def _report() -> HtmlReport:
    report = HtmlReport("Tasks & <b>titles</b>")
    report.heading("<script>alert(1)</script>")
    report.text("5 < 6 & 'so on'")
    report.table(["name", "value", "rows"], [["<i>a</i>", "0.5", "1,000"], ["b", "-", ""]])
    figure = new_figure(3, 2)
    figure.subplots().plot([0, 1], [1, 0])
    report.figure(figure, 'a "line" <falls>')
    return report


def test_texts_are_shown_as_they_are():
    report = _Reader(_report().html())
    for text in (
        "Tasks & <b>titles</b>",
        "<script>alert(1)</script>",
        "5 < 6 & 'so on'",
        "<i>a</i>",
        'a "line" <falls>',
    ):
        assert text in report.texts
    assert not {"script", "i", "b"} & {tag for tag, _ in report.tags}


def test_nothing_is_loaded_from_elsewhere():
    text = _report().html()
    sources = [
        value for _, attributes in _Reader(text).tags for name, value in attributes.items() if name in ("src", "href")
    ]
    assert len(sources) == 1
    assert all(source and source.startswith("data:image/") for source in sources)
    assert "url(" not in text
    assert "@import" not in text


def test_a_figure_is_a_drawing_with_its_caption_for_the_blind():
    (image,) = [attributes for tag, attributes in _Reader(_report().html()).tags if tag == "img"]
    assert image["alt"] == 'a "line" <falls>'
    drawing = base64.b64decode((image["src"] or "").partition("base64,")[2])
    assert b"<svg" in drawing
    assert drawing.rstrip().endswith(b"</svg>")


def test_columns_of_numbers_are_set_to_the_right():
    cells = [attributes.get("class") for tag, attributes in _Reader(_report().html()).tags if tag in ("th", "td")]
    assert cells == [None, "number", "number"] * 3


def test_equal_pages_are_equal_files():
    assert _report().files() == _report().files()
    assert list(_report().files()) == ["report.html"]
    assert re.search(r'name="viewport" content="width=device-width', _report().html())


def test_parts_come_in_the_order_in_which_they_were_added():
    outline = [tag for tag, _ in _Reader(_report().html()).tags]
    head = ["html", "head", "meta", "meta", "title", "style", "body", "h1"]
    table = ["div", "table", *["tr", "th", "th", "th"], *["tr", "td", "td", "td"] * 2]
    assert outline == [*head, "h2", "p", *table, "figure", "div", "img", "figcaption"]


def test_the_templates_are_installed_with_the_package():
    """As `pip install` of a wheel does, which the editable installation of the tests does not."""
    settings = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())["tool"]["setuptools"]
    folder = Path(html.__file__).parent
    packed = {path for pattern in settings["package-data"]["mtl_ray.reporting"] for path in folder.glob(pattern)}
    assert packed == {*(folder / "templates").iterdir()} != set()
