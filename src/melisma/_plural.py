"""A number and its noun, for sentences."""


def count(n: float, noun: str, plural: str | None = None) -> str:
    """A number and its noun.

    >>> count(1, "site"), count(1204, "site")
    ('1 site', '1,204 sites')
    """
    return f"{n:,} {noun if n == 1 else plural or noun + 's'}"
