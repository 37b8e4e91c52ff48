"""What a page of ours shows and asks for, as a browser would take it."""

from __future__ import annotations

from html.parser import HTMLParser

VOID = {"br", "img", "link", "meta"}  # elements of HTML that are never closed

# Names that would do something, were they not escaped; 7 x 191 is 1337.
HOSTILE = [
    "<script>alert(1)</script>",
    "{{7*191}}{% for x in y %}",
    "\"><img src=x onerror=alert(1)>'",
    "</style></title></svg>&lt;",
    "=cmd()",
    "a\udcff\ud800\u202e",
]


class Page(HTMLParser):
    """Reads a page and refuses one whose elements are not closed properly.

    Attributes:
        open: The elements that are not yet closed, the innermost last.
        tags: The element names, as often as they are there.
        attributes: (element, attribute, value) of every attribute.
        texts: The texts in their order, without style sheets.
    """

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str | None]] = []
        self.texts: list[str] = []
        self.feed(html)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attributes)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attributes]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.texts.append(data)

    def values(self, name: str) -> list[str | None]:
        """Return what an attribute is, wherever it is given."""
        return [value for _, attribute, value in self.attributes if attribute == name]

    @property
    def requests(self) -> list[str | None]:
        """What a browser would have to get from elsewhere."""
        asked = self.values("src") + self.values("href")
        return [link for link in asked if not (link or "").startswith(("data:", "#"))]

    @property
    def handlers(self) -> list[str]:
        """Attributes whose value a browser would run."""
        return [name for _, name, _ in self.attributes if name.startswith("on")]

    @property
    def text(self) -> str:
        """The texts as they stand."""
        return "".join(self.texts)

    @property
    def words(self) -> str:
        """The texts with one space between words."""
        return " ".join(" ".join(self.texts).split())
