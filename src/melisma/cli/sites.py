"""`melisma sites`."""


def sites() -> None:
    """Not written yet."""
    raise SystemExit(1)
