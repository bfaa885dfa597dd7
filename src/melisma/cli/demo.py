"""`melisma demo`."""


def demo() -> None:
    """Not written yet."""
    raise SystemExit(1)
