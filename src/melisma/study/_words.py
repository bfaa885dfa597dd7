"""A run's messages, which name the keys of a study in place of the commands' options."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from melisma.errors import MelismaError

_KEYS = {
    "--drop-missing": "`[design] drop_missing = true`",
    "--no-replicates": "`[regions] no_replicates = true`",
    "--merge-strands": "`[ingest] merge_strands = true`",
    "--mark": "`[ingest] mark`",
    "--genome": "`[input] genome`",
    "--manifest": "`[input] manifest`",
    "--matrix": "`[input] matrix`",
    "--block": "`[design] block`",
    "--context": "`[regions] context`",
    "--spike-in": "`[qc] spike_in`",
    "--methylated-control": "`[qc] methylated_control`",
}
_OPTION = re.compile("(?:" + "|".join(map(re.escape, _KEYS)) + r")(?![\w-])")


def in_toml(message: str) -> str:
    """A message with the study's keys in place of options; options without a key stay.

    >>> in_toml("leave it out with --drop-missing (drop_missing=True).")
    'leave it out with `[design] drop_missing = true`.'
    >>> in_toml("name its true format with --format.")
    'name its true format with --format.'
    """
    without_python = message.replace("--drop-missing (drop_missing=True)", "--drop-missing")
    return _OPTION.sub(lambda found: _KEYS[found[0]], without_python)


@contextmanager
def messages_of_a_study() -> Iterator[None]:
    """Errors raised inside name the study's keys; their kind stays."""
    try:
        yield
    except MelismaError as error:
        said = in_toml(str(error))
        if said == str(error):
            raise
        raise type(error)(said) from error
