"""`melisma formats`."""


def formats() -> None:
    """Not written yet."""
    raise SystemExit(1)
