"""The command line as a user meets it: real processes, exit codes, one sentence for bad input."""

import subprocess
import sys

import pytest

from melisma.cli import app, main

NAMES = [verb.name for verb in app.registered_commands]
TRACED = [
    f"trace {verb.name}"
    for group in app.registered_groups
    for verb in group.typer_instance.registered_commands
]
VERBS = [*NAMES, *TRACED]
HEAVY = ("numpy", "polars", "xarray", "numba", "zarr", "scipy", "pandas", "pysam", "plotly")


def melisma(*arguments, cwd=None):
    return subprocess.run(
        [sys.executable, "-c", "from melisma.cli import main; main()", *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=cwd,
    )


def test_help_lists_every_verb_and_loads_nothing_heavy():
    code = (
        "import sys\nfrom melisma.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        f"print([m for m in {HEAVY!r} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert all(f" {verb} " in done.stdout for verb in (*NAMES, "trace"))
    assert done.stdout.strip().endswith("[]")


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_an_example(verb):
    done = melisma(*verb.split(), "--help")
    assert done.returncode == 0
    assert f"Example: melisma {verb}" in " ".join(done.stdout.split())


def test_version():
    import melisma

    assert melisma.__version__ in melisma_version()


def melisma_version():
    return melisma("--version").stdout


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("info", "none.zarr"), "There is no methylome store at none.zarr."),
        (("run", "none.toml"), "There is no study file at none.toml."),
        (
            ("sites", "none.zarr", "-f", "~ g", "-c", "g", "-o", "table.xls"),
            "table.xls ends in .xls; use .tsv or .parquet.",
        ),
        (
            ("regions", "none.zarr", "-f", "~ g", "-c", "g"),
            "There is no methylome store at none.zarr.",
        ),
        (("qc", "none.zarr"), "There is no methylome store at none.zarr."),
    ],
)
def test_bad_input_is_one_sentence_and_exit_2(arguments, sentence, tmp_path):
    done = melisma(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.strip() == f"melisma: {sentence}"
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_debug_shows_the_traceback(tmp_path):
    done = melisma("--debug", "info", "none.zarr", cwd=tmp_path)
    assert "Traceback" in done.stderr


def test_a_fault_of_melisma_itself_is_one_sentence(tmp_path, monkeypatch, capsys):
    def broken(*_, **__):
        raise TypeError("a\nb")

    monkeypatch.setattr("melisma.calls.describe", broken)
    for arguments, raised in (
        (["info", "x.zarr"], SystemExit),
        (["--debug", "info", "x"], TypeError),
    ):
        with pytest.raises(raised) as ended:
            main(arguments)
        if raised is SystemExit:
            assert ended.value.code == 1
            told = capsys.readouterr().err
            assert told.startswith("melisma: A fault of melisma itself")
            assert "TypeError: a b." in told
            assert told.count("\n") == 1
