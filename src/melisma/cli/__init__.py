"""The command line: one file a verb, each with one function that calls the library.

Only typer and rich are imported here; a verb imports the library when it runs, so that
`melisma --help` stays instant.
"""

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from melisma import __version__
from melisma.cli import (
    annotate,
    annotate_samples,
    append,
    demo,
    embed,
    experiment,
    explain,
    export,
    formats,
    info,
    ingest,
    islands,
    markers,
    power,
    predict,
    pretrain,
    qc,
    regions,
    remove,
    rename,
    run,
    score,
    simulate,
    sites,
    trace_site,
    trace_study,
    trace_text,
    trace_words,
    train,
    variants,
)
from melisma.errors import MelismaError

app = typer.Typer(
    name="melisma",
    help="From methylation calls to answers one can look at and trust.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"melisma {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[bool, typer.Option(help="Show the traceback of an error.")] = False,
) -> None:
    """From methylation calls to answers one can look at and trust."""


VERBS = (
    demo.demo,
    run.run,
    ingest.ingest,
    append.append,
    remove.remove,
    rename.rename,
    annotate_samples.annotate_samples,
    info.info,
    formats.formats,
    export.export,
    qc.qc,
    sites.sites,
    regions.regions,
    markers.markers,
    score.score,
    annotate.annotate,
    islands.islands,
    power.power,
    simulate.simulate,
    pretrain.pretrain,
    train.train,
    predict.predict,
    variants.variants,
    explain.explain,
    embed.embed,
    experiment.experiment,
)
for verb in VERBS:
    app.command(verb.__name__.replace("_", "-"))(verb)

# `melisma trace WHAT`: one file each, trace_WHAT.py.
TRACED = (trace_site.site, trace_study.study, trace_text.text, trace_words.words)
traced = typer.Typer(
    name="trace",
    help="Say why: from cause to outcome, in a network or in a study.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
for verb in TRACED:
    traced.command(verb.__name__)(verb)
app.add_typer(traced)


_INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line: 0 done, 2 bad input (one sentence), 130 interrupted."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in arguments
    arguments = [a for a in arguments if a != "--debug"]
    try:
        app(arguments, standalone_mode=True)
    except MelismaError as error:
        if debug:
            raise
        typer.secho(f"melisma: {error}", err=True, fg="red")
        sys.exit(2)
    except (KeyboardInterrupt, SystemExit) as ended:
        # Typer turns Ctrl-C into an exit of its own.
        if isinstance(ended, SystemExit) and ended.code != _INTERRUPTED:
            raise
        typer.secho("melisma: interrupted; the same command resumes.", err=True)
        sys.exit(_INTERRUPTED)
    except OSError as error:
        if debug:
            raise
        named = f" ({error.filename})" if error.filename else ""
        what = error.strerror or str(error)
        typer.secho(f"melisma: {what}{named}.", err=True, fg="red")
        sys.exit(1)
    except Exception as error:
        if debug:
            raise
        said = " ".join(str(error).split()) or "no message"
        typer.secho(
            "melisma: A fault of melisma itself, not of the input: "
            f"{type(error).__name__}: {said}. The same command with --debug shows where: please "
            "report it.",
            err=True,
            fg="red",
        )
        sys.exit(1)
