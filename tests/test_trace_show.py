"""`melisma trace show`: pages of saved traces, joined and compared (made up)."""

import json
import re

import pytest
from sequence_run import main_ok as run
from sequence_run import refused
from test_trace_join import reading, study

from melisma.trace import Trace


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    where = tmp_path_factory.mktemp("show")
    (where / "other").mkdir()
    study().save(where / "study.json")
    study().filter(strongest=1).save(where / "other" / "study.json")
    reading().save(where / "site.json")
    return where


def held(path):
    text = path.read_text(encoding="utf-8")
    found = json.loads(re.search(r'id="data">(.*?)</script>', text, re.S)[1])["traces"]
    return {
        key: (Trace.from_json(json.dumps(own["trace"])), own["strongest"])
        for key, own in found.items()
    }


def test_a_trace_is_told_and_drawn(folder, tmp_path, capsys):
    run("trace", "show", folder / "study.json", "-o", tmp_path / "t.html", "--strongest", "3")
    printed = capsys.readouterr().out
    assert "study: into weight" in printed
    rows = [line.split() for line in printed.splitlines()]
    assert rows.index(["chr1:5", "+0.6", "0.3"]) < rows.index(["smoking", "+0.2", "–"])
    assert "Paths explain +0.9 of +1 (90%)." in printed
    assert held(tmp_path / "t.html") == {"trace-1": (study(), 3)}
    assert "<title>What moves weight</title>" in (tmp_path / "t.html").read_text()
    run("trace", "show", folder / "study.json")
    assert "Written" not in capsys.readouterr().out


def test_several_are_drawn_below_each_other(folder, tmp_path):
    paths = [folder / "study.json", folder / "other" / "study.json", folder / "site.json"]
    run("trace", "show", *paths, "-o", tmp_path / "t.html", "--title", "A & B")
    assert list(held(tmp_path / "t.html")) == ["trace-1", "trace-2", "trace-3"]
    text = (tmp_path / "t.html").read_text()
    assert "<h2>other/study (2)</h2>" in text
    assert "<h2>site</h2>" in text
    assert "<h1>A &amp; B</h1>" in text


def test_traces_are_joined_and_compared(folder, tmp_path, capsys):
    run(
        "trace", "show", folder / "study.json", folder / "site.json", "--join", "chr1:5", "-o",
        tmp_path / "t.html", "--json", tmp_path / "joined.json",
    )  # fmt: skip
    whole = study().join(reading(), "chr1:5")
    assert held(tmp_path / "t.html")["trace-1"][0] == whole == Trace.load(tmp_path / "joined.json")
    assert "motif" not in capsys.readouterr().out
    run(
        "trace", "show", folder / "study.json", "--against", folder / "other" / "study.json",
        "-o", tmp_path / "d.html", "--json", tmp_path / "difference.json",
    )  # fmt: skip
    made = Trace.load(tmp_path / "difference.json")
    assert made == study().diff(study().filter(strongest=1))
    assert "Paths explain +0.3 of +0." in capsys.readouterr().out


def test_what_cannot_be_shown_is_one_sentence(folder, tmp_path, capsys):
    one, other = folder / "study.json", folder / "site.json"
    for words, arguments in (
        ("give two, not 1", (one, "--join", "chr1:5")),
        ("no node 'x'", (one, other, "--join", "x")),
        ("exclude each other", (one, other, "--join", "chr1:5", "--against", one)),
        ("--json writes the one trace", (one, "--json", tmp_path / "t.json")),
        ("written as .html", (one, "-o", tmp_path / "t.txt")),
        ("compare one outcome in one unit", (one, "--against", other)),
        ("no trace at", (folder / "none.json",)),
    ):
        assert words in refused(capsys, "trace", "show", *arguments)
    assert not list(tmp_path.iterdir())
