"""The methods, by name. A new one is a file beside these and a line here."""

from __future__ import annotations

from routing.methods import fastv, none, nuwa, pdrop, random
from routing.methods.method import Method, Request

METHODS: dict[str, Method] = {
    "none": none.METHOD,
    "random": random.METHOD,
    "fastv": fastv.METHOD,
    "pdrop": pdrop.METHOD,
    "nuwa": nuwa.METHOD,
}

__all__ = ["METHODS", "Method", "Request"]
