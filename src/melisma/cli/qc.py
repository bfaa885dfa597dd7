"""`melisma qc`."""


def qc() -> None:
    """Not written yet."""
    raise SystemExit(1)
