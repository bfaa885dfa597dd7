"""Scores as JSON: rounded, with their interval."""

import math
from typing import Any


def named(score: Any) -> dict[str, float | None]:
    """value, low and high of a score, four decimals; None for what was not computed."""
    return {
        name: round(float(value), 4) if math.isfinite(value) else None
        for name, value in score._asdict().items()
    }
