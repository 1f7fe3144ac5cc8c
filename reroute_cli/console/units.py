"""Numbers as people read them: scaled units, ratios, seconds. Base units everywhere else."""

from __future__ import annotations

UNKNOWN = "–"
_DECIMAL = ("", "K", "M", "G", "T", "P")
_BINARY = ("B", "KiB", "MiB", "GiB", "TiB")


def flops(count: float | None) -> str:
    """1234567890 -> '1.23 GFLOPs'."""
    if count is None:
        return UNKNOWN
    value, prefix = _scaled(count, 1000, _DECIMAL)
    return f"{value} {prefix}FLOPs"


def size(count: float | None) -> str:
    """1234567 -> '1.18 MiB'."""
    if count is None:
        return UNKNOWN
    value, unit = _scaled(count, 1024, _BINARY)
    return f"{value} {unit}"


def seconds(value: float | None) -> str:
    """0.0123 -> '12.3 ms'."""
    if value is None:
        return UNKNOWN
    return f"{_three(value)} s" if value >= 1 else f"{_three(value * 1e3)} ms"


def ratio(part: float | None, whole: float | None) -> str:
    """Part of a whole: (41, 100) -> '0.41×'; unknown where a part is missing or the whole is nothing."""
    return UNKNOWN if part is None or not whole else f"{part / whole:.2f}×"


def tokens(count: float | None) -> str:
    """28.583 -> '28.6', 256.0 -> '256'."""
    return UNKNOWN if count is None else f"{count:.1f}".removesuffix(".0")


def _scaled(count: float, step: int, units: tuple[str, ...]) -> tuple[str, str]:
    index = 0
    while count >= step and index < len(units) - 1:
        count, index = count / step, index + 1
    return (str(int(count)) if not index else _three(count)), units[index]


def _three(value: float) -> str:
    """Three significant digits without an exponent."""
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"
