"""Figures as text: markdown tables as lmms-eval prints them."""

from __future__ import annotations

from collections.abc import Sequence


def table(head: Sequence[str], rows: Sequence[Sequence[object]], left: int = 1) -> str:
    """A markdown table; the first `left` columns are aligned left, the rest right."""
    marks = [":--"] * left + ["--:"] * (len(head) - left)
    return "\n".join(_line(cells) for cells in (head, marks, *rows))


def _line(cells: Sequence[object]) -> str:
    shown = (" ".join(str(cell).split()).replace("|", "\\|") for cell in cells)
    return "| " + " | ".join(shown) + " |"


def number(value: float | None, form: str = ".1f") -> str:
    return "-" if value is None else format(value, form)


def points(value: float | None, scale: float = 1.0) -> str:
    """A score as points of 100."""
    return number(None if value is None else 100 * value / scale)


def span(low: float | None, high: float | None, scale: float = 1.0) -> str:
    """An interval in points of 100."""
    return "-" if low is None or high is None else f"[{points(low, scale)}, {points(high, scale)}]"


def p_value(p: float) -> str:
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def cost(value: float | None) -> str:
    """A cost with four significant digits and no exponent below a million."""
    if value is None:
        return "-"
    return f"{value:.3e}" if abs(value) >= 1e6 else f"{value:.4g}"
