"""The one error that a user is meant to read."""


class MelismaError(Exception):
    """Input or a request that melisma cannot serve, told in one sentence with the remedy.

    The command line prints the sentence and exits with 2; a library caller catches it.
    """
