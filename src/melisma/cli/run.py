"""`melisma run`."""


def run() -> None:
    """Not written yet."""
    raise SystemExit(1)
