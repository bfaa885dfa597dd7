"""`melisma regions`."""


def regions() -> None:
    """Not written yet."""
    raise SystemExit(1)
