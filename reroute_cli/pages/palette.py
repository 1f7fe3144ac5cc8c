"""The page's colours, light and dark: Okabe and Ito's, told apart with any colour vision.

The same four roles everywhere: dense, prune, reroute, other. The stylesheet has them as variables of the same
values, which a test checks; figures are made in the light ones, and the page's script puts the dark ones in
their place. https://jfly.uni-koeln.de/color/
"""

from __future__ import annotations

LIGHT = {
    "dense": "#4a4f59",
    "prune": "#d55e00",
    "reroute": "#0072b2",
    "other": "#8f4a80",
    "ink": "#1b1e24",
    "soft": "#5a606b",
    "rule": "#e1e4e8",
    "paper": "#ffffff",
}
DARK = {
    "dense": "#c3c8d1",
    "prune": "#f28c45",
    "reroute": "#56b4e9",
    "other": "#d9a0cc",
    "ink": "#e9ebee",
    "soft": "#a7adb8",
    "rule": "#2e333c",
    "paper": "#1b1e24",
}
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "star", "hexagon", "triangle-down")
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
