"""The report: what it says equals the tables, escapes, and honest nothings."""

import base64
import itertools
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from report_run import DELTA, REFUSED, P, Reading, make_run

from melisma.errors import MelismaError
from melisma.report import write_report
from melisma.report._figures_quality import alike_order, shortened
from melisma.report._figures_regions import smoothed
from melisma.report._methods import notice
from melisma.report._points import SitePoints, thinned
from melisma.report._study import groups, read_study
from melisma.report._style import DARK, GROUP_TOKENS, LIGHT, packed, separated
from melisma.report._tables import brief_table
from melisma.report._words import strongest


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_run(tmp_path_factory.mktemp("report") / "run")
    assert write_report(folder) == folder / "report.html"
    return folder


@pytest.fixture(scope="module")
def html(run_folder: Path) -> str:
    return (run_folder / "report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def reading(html: str) -> Reading:
    return Reading(html)


@pytest.fixture(scope="module")
def data(html: str) -> dict[str, Any]:
    found = re.search(r'id="data">(.*?)</script>', html, re.DOTALL)
    assert found
    return json.loads(found[1])


def _unpacked(spec: dict[str, str]) -> np.ndarray:
    return np.frombuffer(base64.b64decode(spec["bdata"]), dtype=np.dtype(f"<{spec['dtype']}"))


def test_the_summary_says_what_was_asked_and_found(reading: Reading) -> None:
    text = reading.text
    assert "Do marks differ between acti<v>e and rest ing, and between y and x?" in text
    assert "4 sites and 1 region pass q < .05" in text
    assert "chr1:100–261, acti<v>e is 41 points lower" in text
    assert "Between y and x, nothing passes q < .05 (the smallest q is .48)." in text
    assert (
        "With people as blocks, 4 sites pass q < .05; at the strongest site, chr1:150, "
        "acti<v>e is 50 points lower; regions could not be tested."
    ) in text
    assert "By 40 genotype-like sites the 6 samples come from 3 people." in text
    assert "One of them contradicts the sheet." in text


def test_each_contrast_is_told_honestly(reading: Reading) -> None:
    text = reading.text
    assert "4 sites of 9 pass q < .05, all lower in acti<v>e." in text
    assert "1 region of 2 candidates passes q < .05, lower in acti<v>e." in text
    assert "No site of 9 passes q < .05; the smallest q is .53." in text
    assert "No region of 2 candidate regions passes q < .05; the smallest q is .48." in text
    assert "they are not findings" in text
    assert f"Regions were not tested. {REFUSED}" in text
    assert "1 site could not be tested and is not drawn." in text


def test_a_refused_region_test_draws_no_region(data: dict[str, Any]) -> None:
    regions = [key for key in data["figures"] if ".region" in key]
    assert [key for key in regions if key.startswith("paired.")] == []
    assert [key for key in regions if key.startswith("main.cell.")] == [
        "main.cell.region1",
        "main.cell.region.relabelled",
    ]


def test_the_embedded_tables_equal_the_parquet_files(data: dict[str, Any]) -> None:
    tables = {table["key"]: table for table in data["tables"]}
    assert list(tables) == [
        "main.cell.regions", "main.cell.sites", "main.arm.regions", "main.arm.sites",
        "paired.cell.sites",
    ]  # fmt: skip
    sites = tables["main.cell.sites"]
    columns = dict(zip(sites["columns"], sites["values"], strict=True))
    assert columns["position"] == [150, 100, 200, 260, 1000, 50, 300, 900, 950]
    assert columns["p"] == [1e-7, 1e-6, 2e-5, 0.004, 0.03, 0.5, 0.6, 0.8, 0.95]
    assert columns["q"][0] == 9e-7
    assert sites["tested"] == 9
    regions = tables["main.cell.regions"]
    assert regions["values"][0] == ["chr1:100-261", "chr1:900-1001"]
    assert regions["unseen"] == ["contig", "start", "end"]


def test_the_volcano_holds_every_tested_site(data: dict[str, Any]) -> None:
    traces = data["figures"]["main.cell.volcano"]["data"]
    drawn = {
        (round(float(x), 3), round(float(y), 3))
        for trace in traces
        for x, y in zip(_unpacked(trace["x"]), _unpacked(trace["y"]), strict=True)
    }
    expected = {
        (round(100 * d, 3), round(-np.log10(p), 3))
        for d, p in zip(DELTA, P, strict=True)
        if p is not None
    }
    assert drawn == expected
    called = traces[-1]
    assert called["marker"]["color"] == ["@c1"] * 4
    assert called["text"][0] == "chr1:150<br>−50 points<br>p 1.0 × 10⁻⁷, q 9.0 × 10⁻⁷"


def test_a_region_panel_shows_reads_of_every_sample(data: dict[str, Any]) -> None:
    traces = data["figures"]["main.cell.region1"]["data"]
    dots = [trace for trace in traces if trace.get("text")]
    words = [word for trace in dots for word in trace["text"]]
    # Five sites of chr1 lie within the region and its flanks.
    assert len(words) == 5 * 6
    assert words.count("s1: 16 of 20 reads") == 5
    assert words.count("s&lt;6&gt;: 8 of 20 reads") == 4
    notes = data["figures"]["main.cell.region1"]["layout"]["annotations"]
    assert {note["text"] for note in notes} == {
        "level, %",
        "acti&lt;v&gt;e: 40%",
        "rest ing: 80%",
    }


def test_a_site_is_drawn_sample_by_sample_with_its_people_joined(data: dict[str, Any]) -> None:
    lines, dots = data["figures"]["paired.cell.site1"]["data"]
    # Donor 1 is s1 (16 of 20 reads) and s4 (8 of 20), and so on: three lines, each lifted after.
    assert lines["y"] == [80.0, 40.0, None] * 3
    assert dots["y"] == [80.0] * 3 + [40.0] * 3
    assert dots["text"][3] == "s4: 8 of 20 reads"
    assert dots["marker"]["color"] == ["@c1"] * 3 + ["@c0"] * 3
    assert [x < 0.5 for x in dots["x"]] == [True] * 3 + [False] * 3
    assert len(set(dots["x"])) == 6
    assert not any(key.startswith("main.cell.site1") for key in data["figures"])


def test_identity_puts_one_persons_samples_side_by_side(data: dict[str, Any]) -> None:
    figure = data["figures"]["identity"]
    assert figure["data"][0]["y"] == ["s1", "s4", "s2", "s5", "s3", "s&lt;6&gt;"]
    shapes = figure["layout"]["shapes"]
    assert [s["line"]["color"] for s in shapes].count("@ink") == 3
    clash = [s for s in shapes if s["line"]["color"] == "@alert"]
    assert {(s["x0"], s["y0"]) for s in clash} == {(0.5, -0.5), (-0.5, 0.5)}


def test_what_comes_from_data_is_escaped(html: str, reading: Reading) -> None:
    assert html.count("<script>alert(1)") == 0
    assert [tag for tag, _ in reading.tags].count("script") == 4
    assert not {"v", "6", "differ"} & {tag for tag, _ in reading.tags}
    assert "One site is <b>odd</b>." in reading.text
    assert "s1 and s4 come from one person, but <differ>." in reading.text
    assert "Study </script><script>alert(1)</script>" in reading.text


def test_nothing_is_loaded_and_only_citations_are_linked(html: str, reading: Reading) -> None:
    links = [a[k] for _, a in reading.tags for k in ("src", "href", "data", "action") if k in a]
    outside = [link for link in links if not (link or "").startswith("#")]
    assert outside
    assert all((link or "").startswith("https://doi.org/10.") for link in outside)
    style = html[html.index("<style>") : html.index("</style>")]
    assert "url(" not in style
    assert "@import" not in style
    policy = [a["content"] for _, a in reading.tags if a.get("http-equiv")]
    assert policy == [
        "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
        "img-src data: blob:"
    ]


def test_the_record_is_shown_without_the_machines_folders(html: str, reading: Reading) -> None:
    assert "calls/s1.cov.gz" in reading.text
    assert "/home/someone" not in html
    assert "cd" * 32 in reading.text
    assert "melisma 0.1.0, python 3.11.7, numpy 2.4.6." in reading.text
    assert "regions.seed1regions.relabellingsdefault" in reading.text
    assert "From somewhere x <i>." in reading.text


def test_calibration_sets_relabelled_calls_beside_real_ones(
    reading: Reading, data: dict[str, Any]
) -> None:
    assert "λ = 1.23; relabelled 0.80 to 1.10" in reading.text
    assert "1 called; 1 of 3 relabellings call as many" in reading.text
    bars = data["figures"]["main.cell.region.relabelled"]["data"][0]
    assert dict(zip(bars["x"], bars["y"], strict=True)) == {0: 2, 1: 0, 2: 1, 3: 0, 4: 0, 5: 0}
    qq = data["figures"]["main.cell.qq"]["data"][-1]
    np.testing.assert_allclose(
        _unpacked(qq["x"])[:2], [-np.log10(0.5 / 9), -np.log10(1.5 / 9)], rtol=1e-6
    )
    np.testing.assert_allclose(_unpacked(qq["y"])[:2], [7, 6], rtol=1e-6)


def test_every_colour_token_has_a_value_in_both_themes(data: dict[str, Any]) -> None:
    tokens = set(re.findall(r'"@([a-z]+\d?)(?:/[\d.]+)?"', json.dumps(data)))
    assert {"ink", "faint", "c0", "c1", "seq0"} <= tokens
    assert tokens <= set(LIGHT)
    assert set(LIGHT) == set(DARK)


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MelismaError, match=r"has no run\.json"):
        write_report(tmp_path)
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(MelismaError, match="no methylome store"):
        write_report(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]


def test_a_run_without_people_levels_or_tests_is_told(run_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(run_folder, folder)
    run = json.loads((folder / "run.json").read_text())
    identity = run["qc"]["identity"]
    identity |= {"people": {}, "resolved": False, "contradictions": []}
    identity |= {"sentence": "Who is who cannot be told.", "reason": "Only 3 sites vary."}
    contrast = run["designs"][0]["contrasts"][0]
    contrast |= {"column": "age", "levels": None, "label": "age", "name": "age"}
    run["designs"] = [{**run["designs"][0], "contrasts": [contrast]}]
    contrast["sites"] = {"refused": "The engine is off."}
    (folder / "run.json").write_text(json.dumps(run))
    text = Reading(write_report(folder).read_text(encoding="utf-8")).text
    assert "Who is who cannot be told." in text
    assert "Only 3 sites vary." in text
    assert "Sites were not tested. The engine is off." in text
    assert "41 points lower per unit of age" in text


def test_a_run_without_contrasts_says_so(run_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(run_folder, folder)
    run = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps(run | {"designs": []}))
    text = Reading(write_report(folder).read_text(encoding="utf-8")).text
    assert "This run describes 6 samples and 10 sites of 5mC; no contrast was asked for." in text


def test_a_column_keeps_its_colours_and_numbers_are_cut_in_thirds(run_folder: Path) -> None:
    study = read_study(run_folder)
    cell, arm, age = (groups(study, name) for name in ("cell", "arm", "age"))
    assert cell.colours == {"acti<v>e": "@c0", "rest_ing": "@c1"}
    assert arm.colours == {"y": "@c2", "x": "@c3"}
    assert age.labels == ["20 to 38.3"] * 2 + ["38.3 to 56.7"] * 2 + ["56.7 to 75"] * 2
    assert list(age.colours.values())[:3] == ["@o0", "@o1", "@o2"]


# Machado, Oliveira & Fernandes 2009, severity 1.
_DEFICIENCIES = {
    "none": np.eye(3),
    "protanopia": np.array(
        [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ]
    ),
    "deuteranopia": np.array(
        [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ]
    ),
    "tritanopia": np.array(
        [
            [1.255528, -0.076749, -0.178779],
            [-0.078411, 0.930809, 0.147602],
            [0.004733, 0.691367, 0.303900],
        ]
    ),
}


def _linear(colour: str) -> np.ndarray:
    channel = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    return np.where(channel <= 0.04045, channel / 12.92, ((channel + 0.055) / 1.055) ** 2.4)


def _lab(linear: np.ndarray) -> np.ndarray:
    to_xyz = np.array(
        [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    )
    xyz = to_xyz @ np.clip(linear, 0, 1) / np.array([0.9505, 1, 1.089])
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def _contrast_ratio(a: str, b: str) -> float:
    low, high = sorted(float(_linear(c) @ [0.2126, 0.7152, 0.0722]) for c in (a, b))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
@pytest.mark.parametrize("deficiency", _DEFICIENCIES)
def test_groups_stay_apart_for_every_eye(theme: dict[str, str], deficiency: str) -> None:
    seen = {
        token: _lab(_DEFICIENCIES[deficiency] @ _linear(theme[token[1:]])) for token in GROUP_TOKENS
    }
    apart = {
        (a, b): float(np.linalg.norm(seen[a] - seen[b]))
        for a, b in itertools.combinations(GROUP_TOKENS, 2)
    }
    assert min(apart.values()) > 12
    assert min(apart[pair] for pair in zip(GROUP_TOKENS[::2], GROUP_TOKENS[1::2], strict=True)) > 20


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
def test_words_are_readable_on_their_paper(theme: dict[str, str]) -> None:
    for name in ("ink", "soft", "alert", "c0", "c1", "c2", "c3"):
        assert _contrast_ratio(theme[name], theme["paper"]) > 4.5, name
    for name in ("c4", "c5"):
        assert _contrast_ratio(theme[name], theme["paper"]) > 3, name


_coordinates = st.lists(
    st.tuples(st.floats(-1, 1, width=32), st.floats(0, 50, width=32)), min_size=1, max_size=300
)


@given(_coordinates, st.integers(70, 120))
def test_thinning_keeps_the_highest_and_takes_no_chance(
    points: list[tuple[float, float]], most: int
) -> None:
    x, y = (np.array(column) for column in zip(*points, strict=True))
    kept = thinned(x, y, most)
    assert len(kept) <= max(most, min(len(x), 72))
    assert len(set(kept.tolist())) == len(kept)
    assert y[kept].max() == y.max()
    assert kept.tolist() == thinned(x, y, most).tolist()
    if len(x) <= most:
        assert kept.tolist() == list(range(len(x)))


def test_where_p_underflows_the_statistic_orders_and_nothing_is_called_zero(
    run_folder: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(run_folder, folder)
    path = next(p for p in sorted((folder / "tables").glob("*.sites.parquet")))
    table = pl.read_parquet(path)
    size = pl.Series([-50.0, 40.0, 60.0, *[1.0] * (table.height - 3)])
    tiny = size.abs() > 1
    table.with_columns(
        statistic=size,
        p=pl.when(tiny).then(0.0).otherwise("p"),
        q=pl.when(tiny).then(0.0).otherwise("q"),
    ).write_parquet(path)
    contrast = next(c for c in read_study(folder).contrasts if f"{c.key}.sites" == path.stem)
    top = strongest(contrast.sites, 3)
    assert top["statistic"].to_list() == [60.0, -50.0, 40.0]
    brief = brief_table(contrast, None, "sites", 1)
    assert "&lt; 10⁻³⁰⁰" in brief
    assert ">0<" not in brief
    points = SitePoints(contrast, "position")
    assert points.size[:3].tolist() == [50.0, 40.0, 60.0]
    drawn = points.traces(np.arange(len(points)), ("@c0", "@c1"))
    named = [trace["text"] for trace in drawn if "text" in trace]
    assert any(words[0].startswith(points.label(2)) for words in named)
    assert any("p &lt; 10⁻³⁰⁰" in words[0] for words in named)


@given(
    st.lists(
        st.tuples(st.integers(0, 400), st.integers(0, 9), st.integers(1, 9)),
        min_size=1,
        max_size=12,
        unique_by=lambda site: site[0],
    )
)
@settings(max_examples=50)
def test_smoothing_equals_a_plain_loop(sites: list[tuple[int, int, int]]) -> None:
    position = np.array([s[0] for s in sites])
    level = np.array([s[1] / 9 for s in sites])
    weight = np.array([float(s[2]) for s in sites])
    grid = np.linspace(-50, 450, 11)
    found = smoothed(position, level, weight, grid, 30.0)
    for at, value in zip(grid, found, strict=True):
        away = [abs(at - p) / 30 for p in position]
        if min(away) > 3:
            assert np.isnan(value)
            continue
        pull = [w * np.exp(-0.5 * a * a) for w, a in zip(weight, away, strict=True)]
        mean = sum(k * v for k, v in zip(pull, level, strict=True)) / sum(pull)
        assert value == pytest.approx(mean, abs=1e-9)


@given(st.lists(st.floats(0, 100), min_size=1, max_size=6))
def test_labels_moved_apart_keep_their_order(heights: list[float]) -> None:
    moved = separated(heights, 11)
    order = np.argsort(heights, kind="stable")
    assert (np.diff(np.array(moved)[order]) > 11 - 0.5).all()
    assert np.mean(moved) == pytest.approx(np.mean(heights), abs=1e-6)


@given(st.lists(st.integers(-(2**31), 2**31 - 1), max_size=20))
def test_packed_arrays_come_back(values: list[int]) -> None:
    assert _unpacked(packed(values, "i4")).tolist() == values


def test_alike_samples_stand_side_by_side() -> None:
    distance = np.full((5, 5), 0.9)
    for i, j in ((0, 3), (1, 4)):
        distance[i, j] = distance[j, i] = 0.1
    order = alike_order(distance)
    assert sorted(order) == [0, 1, 2, 3, 4]
    assert abs(order.index(0) - order.index(3)) == 1
    assert abs(order.index(1) - order.index(4)) == 1


def test_names_are_shortened_only_to_numbers() -> None:
    assert shortened(["s1", "s2", "s10"]) == ["1", "2", "10"]
    assert shortened(["s", "s1"]) == ["s", "s1"]


def test_a_notice_is_set_and_escaped() -> None:
    text = "# Data\n\n**Bold** and [link](https://a.org/x) <script>\n\n- one\n  more\n- two"
    assert notice(text) == (
        "<h4>Data</h4><p><strong>Bold</strong> and "
        '<a href="https://a.org/x">link</a> &lt;script&gt;</p>'
        "<ul><li>one more</li><li>two</li></ul>"
    )


def test_few_relabellings_do_not_judge_lambda() -> None:
    from melisma.report._section_calibration import inflation

    words = inflation({"lambda": 2.68, "relabelled_lambda": [1.11, 1.22]})
    assert words == "λ = 2.68; 2 relabellings are too few to judge it by"
