"""Tooltips for the points of an SVG: a <title> in the group of each, as the SVG specification has it.

https://www.w3.org/TR/SVG2/struct.html#TitleElement. Knows XML; not what is drawn.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from xml.etree import ElementTree

from reroute_cli.exports.text import xml_text

_SVG = "http://www.w3.org/2000/svg"
_NAMESPACES = {
    "": _SVG,
    "xlink": "http://www.w3.org/1999/xlink",
    "cc": "http://creativecommons.org/ns#",
    "dc": "http://purl.org/dc/elements/1.1/",
    "rdf": "http://www.w3.org/1999/02/22-rdf-syntax-ns#",
}
_DOCTYPE = re.compile(rb"<!DOCTYPE[^>]*>\s*")


def with_tooltips(svg: bytes, tooltips: Iterable[tuple[str, str]]) -> str:
    """The SVG with a title in the element of each id that it has; texts are escaped."""
    for prefix, namespace in _NAMESPACES.items():
        ElementTree.register_namespace(prefix, namespace)
    root = ElementTree.fromstring(_DOCTYPE.sub(b"", svg))  # noqa: S314  drawn by ourselves a moment ago
    groups = {element.get("id"): element for element in root.iter() if element.get("id")}
    for name, text in tooltips:
        if name in groups:
            title = ElementTree.Element(f"{{{_SVG}}}title")
            title.text = xml_text(text)
            groups[name].insert(0, title)
    return ElementTree.tostring(root, encoding="unicode") + "\n"
