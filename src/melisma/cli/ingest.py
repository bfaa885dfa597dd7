"""`melisma ingest`."""


def ingest() -> None:
    """Not written yet."""
    raise SystemExit(1)
