"""Figures as text."""

from __future__ import annotations


def number(value: float | None, form: str = ".1f") -> str:
    return "-" if value is None else format(value, form)


def points(value: float | None, scale: float = 1.0) -> str:
    """A score as points of 100."""
    return number(None if value is None else 100 * value / scale)


def span(low: float | None, high: float | None, scale: float = 1.0) -> str:
    """An interval in points of 100."""
    return "-" if low is None or high is None else f"[{points(low, scale)}, {points(high, scale)}]"


def spread(value: float, low: float | None, high: float | None) -> str:
    """What stands behind a score in points of 100: ` ± 5.8`, or `, 96.3-100.0` where its interval goes one way only."""
    if low is None or high is None or high <= low:
        return ""
    one_way = min(value - low, high - value) < 1e-9
    return f", {low:.1f}-{high:.1f}" if one_way else f" ± {(high - low) / 2:.1f}"


def p_value(p: float) -> str:
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def cost(value: float | None) -> str:
    """A cost with four significant digits and no exponent below a million."""
    if value is None:
        return "-"
    return f"{value:.3e}" if abs(value) >= 1e6 else f"{value:.4g}"
