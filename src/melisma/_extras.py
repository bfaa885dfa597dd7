"""Packages that are installed only with an extra, and the sentence that says which."""

from importlib.util import find_spec

from melisma.errors import MelismaError


def require(extra: str, *packages: str, what: str) -> None:
    """Refuse work whose packages are not installed, and name the extra that has them.

    Raises
    ------
    MelismaError
        One of `packages` cannot be found.

    Examples
    --------
    >>> require("deep", "no_such_package", what="Training")
    Traceback (most recent call last):
    melisma.errors.MelismaError: Training needs no_such_package: pip install "melisma[deep]".
    """
    for package in packages:
        if find_spec(package) is None:
            raise MelismaError(f'{what} needs {package}: pip install "melisma[{extra}]".')


def installed(*packages: str) -> bool:
    """Whether all of some packages can be found.

    >>> installed("numpy"), installed("numpy", "no_such_package")
    (True, False)
    """
    return all(find_spec(package) is not None for package in packages)
