"""`melisma info`."""


def info() -> None:
    """Not written yet."""
    raise SystemExit(1)
