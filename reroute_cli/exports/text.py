"""Untrusted text inside other formats: what each takes for its own syntax is escaped. Knows no records."""

from __future__ import annotations

import re

from reroute_cli.console.output import clean

# CommonMark lets any ASCII punctuation be escaped with a backslash (https://spec.commonmark.org/0.31.2/#backslash-escapes);
# these are the ones that mean something inside a line or a table cell.
_MARKDOWN = re.compile(r"([\\`*_{}\[\]()#!|~$@])")
# XML 1.0 allows tab, newline, return and everything from space on but surrogates, U+FFFE and U+FFFF
# (https://www.w3.org/TR/xml/#charsets).
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def markdown(text: object) -> str:
    """Text as one line of Markdown that shows it and nothing else: no markup, no HTML, no table cell ends."""
    line = clean(str(text), one_line=True).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _MARKDOWN.sub(r"\\\1", line)


def xml_text(text: object) -> str:
    """Text without the characters that XML 1.0 forbids; the XML writer escapes the rest."""
    return _NOT_XML.sub("", clean(str(text)))
