"""The page of a trace as text: its whole in words, its data, what is escaped (all made up)."""

import json
import re
from dataclasses import replace

import pytest
from report_run import Reading

from melisma.errors import MelismaError
from melisma.report import trace_page, write_traces
from melisma.report._markup import Page
from melisma.report._trace import traces_section
from melisma.trace import Edge, Node, Trace


def made(total=1.25, error=0.1, effects=(0.75, 0.25), errors=(0.03, 0.04)):
    nodes = (
        Node("diet", 0, "exposure"), Node("age", 0, "exposure"), Node("weight", 1, "phenotype"),
    )  # fmt: skip
    edges = tuple(
        Edge(name, "weight", effect, spread)
        for name, effect, spread in zip(("diet", "age"), effects, errors, strict=True)
    )
    return Trace(nodes, edges, "weight", total, error, "kg", ("No confounding.",), {"data": "toy"})


def held(page):
    return json.loads(re.search(r'id="data">(.*?)</script>', page, re.S)[1])


def test_the_whole_is_said_with_its_error():
    # 1.0 of 1.25; error hypot(hypot(.03, .04), .8 * .1) / 1.25 = .0943 / 1.25 = 7.5%.
    text = Reading(trace_page(made(), "Why")).text
    assert "Paths explain 80% ± 8% of the total +1.25 ± 0.10 kg." in text
    assert "What moves weight most is diet: +0.750 ± 0.030." in text
    assert "No confounding." in text
    shared = replace(made(), about={"share_error": 0.004})
    assert "Paths explain 80% ± 0.4% of the total" in Reading(trace_page(shared)).text
    summed = replace(made(), about={"share_error": 1e-8})
    assert "Paths explain 80% ± under 0.1% of the total" in Reading(trace_page(summed)).text
    exact = Reading(trace_page(made(error=None, errors=(None, None)))).text
    assert "Paths explain 80% of the total +1.25 kg." in exact
    nothing = Reading(trace_page(made(total=0.0))).text
    assert "The total is 0, so that no share of it can be said; the paths sum to +1.00" in nothing


def test_the_bar_holds_the_share_and_its_error():
    bar = re.search(r'<svg class="trace-share".*?</svg>', trace_page(made()), re.S)[0]
    assert 'class="done" x="0.0" y="4" width="352.0"' in bar  # 80% of 440
    low = float(re.search(r'whisker" d="M([\d.]+) 8H', bar)[1])
    assert low == pytest.approx(440 * (0.8 - 0.0943398 / 1.25), abs=0.06)


def test_the_page_holds_the_trace_itself_and_loads_nothing(tmp_path):
    trace = made()
    path = write_traces(trace, tmp_path / "page.html", strongest=7)
    page = path.read_text(encoding="utf-8")
    data = held(page)["traces"]["trace-1"]
    assert Trace.from_json(json.dumps(data["trace"])) == trace
    assert data["strongest"] == 7
    assert "plotly.js" not in page
    reading = Reading(page)
    assert not [a for _, a in reading.tags if str(a.get("src", a.get("href"))).startswith("http")]


def test_several_traces_have_a_section_each():
    page = trace_page({"One": made(), "A heading that is long enough to be cut": made(total=2.0)})
    assert set(held(page)["traces"]) == {"trace-1", "trace-2"}
    text = Reading(page).text
    assert "One. Paths explain 80% ± 8%" in text
    assert "long enough to be cut. Paths explain 50%" in text
    assert '<a href="#trace-2">A heading that is lon…</a>' in page


def test_nothing_is_not_drawn():
    with pytest.raises(MelismaError, match="no trace to draw"):
        trace_page({})


def test_what_hangs_under_a_node_is_said_with_its_assumptions():
    inner = Trace(
        (Node("+1 A", 0, "base"), Node("level", 1)), (Edge("+1 A", "level", -1.0),), "level", -2.0,
        None, "log odds", ("Of the model.",), {"site": "chr1:5"},
    )  # fmt: skip
    text = Reading(trace_page(made().join(inner, "diet"))).text
    assert "Paths explain 80%" in text
    assert "Under diet hangs another trace, of level: its paths explain 50% of it." in text
    assert "Under diet: Of the model." in text
    assert "under diet: site" in text


def test_names_are_text_and_end_no_script():
    bad = "</script><script>alert(1)</script>"
    trace = Trace(
        (Node(bad, 0, bad, 1.0, {bad: bad}), Node("y", 1)), (Edge(bad, "y", 1.0, None, bad),), "y",
        1.0, None, bad, (bad,), {bad: bad},
    )  # fmt: skip
    page = trace_page({bad: trace}, bad)
    scripts = [tag for tag, _ in Reading(page).tags if tag == "script"]
    assert len(scripts) == len([t for t, _ in Reading(trace_page(made())).tags if t == "script"])
    assert "<script>alert" not in page
    assert held(page)["traces"]["trace-1"]["trace"]["nodes"][0]["name"] == bad


def test_the_section_of_a_report_has_headings_and_notes():
    page = Page()
    assert traces_section({}, page) == ""
    noted = replace(made(), about={"note": "Of q < .05 only.", "data": "toy"})
    section = traces_section({"A": made(), "B": noted}, page)
    assert section.count("Of q") == 1
    assert section.count('class="trace"') == 2
    assert section.index("Of q") > section.index("<h3>B</h3>")
    assert set(page.traces) == {"trace-1", "trace-2"}
