"""A report's page, taken apart without a browser."""

from __future__ import annotations

from html.parser import HTMLParser


class Page(HTMLParser):
    """The tables of a page by caption, the text of its sections by name, and their commands."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tables: dict[str, list[list[str]]] = {}
        """Caption -> rows of cells, the heading first."""
        self.texts: dict[str, str] = {}
        self.commands: dict[str, list[str]] = {}
        self._section, self._caption, self._within = "", "", ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "section":
            self._section = dict(attrs)["id"] or ""
            self.texts[self._section], self.commands[self._section] = "", []
        elif tag == "caption":
            self._caption = ""
        elif tag == "tr":
            self.tables.setdefault(self._caption, []).append([])
        elif tag in ("td", "th"):
            self.tables[self._caption][-1].append("")
        elif tag == "code":
            self.commands[self._section].append("")
        if tag in ("caption", "td", "th", "code", "script", "style"):
            self._within = tag

    def handle_endtag(self, tag: str) -> None:
        if tag == self._within:
            self._within = ""
        if tag == "section":
            self._section = ""

    def handle_data(self, data: str) -> None:
        if self._within in ("script", "style"):
            return
        if self._section:
            self.texts[self._section] += data
        if self._within == "caption":
            self._caption += data
        elif self._within in ("td", "th"):
            self.tables[self._caption][-1][-1] += data
        elif self._within == "code":
            self.commands[self._section][-1] += data
