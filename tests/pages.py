"""A web page as the tests read it."""

from __future__ import annotations

from html.parser import HTMLParser

VOID = {"br", "col", "hr", "img", "input", "link", "meta", "wbr"}


class Page(HTMLParser):
    """A page's elements in order, each with its attributes and those that it lies in; its links, identifiers and text.

    Raises
    ------
    ValueError
        If an element is not closed, or not in its order.
    """

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None], tuple[str, ...]]] = []
        self.text = ""
        self.headings: list[tuple[int, str]] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        if self._open:
            raise ValueError(f"never closed: {self._open}")

    @property
    def tags(self) -> list[str]:
        return [tag for tag, _, _ in self.elements]

    @property
    def ids(self) -> list[str]:
        return self.attributes("id")

    @property
    def links(self) -> list[str]:
        return [link for name in ("src", "href", "xlink:href") for link in self.attributes(name)]

    def attributes(self, name: str, tag: str | None = None) -> list[str]:
        """The values of an attribute, of all elements or of those of one tag."""
        found = (attributes.get(name) for element, attributes, _ in self.elements if tag in (None, element))
        return [value for value in found if value is not None]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        if len(set(names)) < len(names):
            raise ValueError(f"<{tag}> has an attribute twice: {names}")
        self.elements.append((tag, dict(attrs), tuple(self._open)))
        if tag not in VOID:
            self._open.append(tag)
        if tag[0] == "h" and tag[1:].isdigit():
            self.headings.append((int(tag[1:]), ""))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        if not self._open or self._open[-1] != tag:
            raise ValueError(f"</{tag}> closes {self._open[-1:]}")
        self._open.pop()

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] == "style":
            return
        self.text += data
        if self.headings and self._open and self._open[-1] == f"h{self.headings[-1][0]}":
            self.headings[-1] = (self.headings[-1][0], self.headings[-1][1] + data)
