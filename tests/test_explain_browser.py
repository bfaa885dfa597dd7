"""The page of an explained model in a real Chromium: drawn, themed, on a phone, silent."""

import numpy as np
import polars as pl
import pytest
from test_report_browser import _open, browser  # noqa: F401

from melisma.report import write_explanation

pytest.importorskip("torch")
pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """A page of made-up motifs (simulated)."""
    from melisma.sequence.attributions import Attributions
    from melisma.sequence.explanation import Explanation
    from melisma.sequence.motifs import Motif, Seqlet

    rng = np.random.default_rng(0)
    windows = rng.integers(0, 4, (40, 41)).astype(np.uint8)
    effect = rng.normal(0, 0.05, (40, 41, 4)).astype(np.float32)
    found = Attributions(windows, np.full(40, 0.5, np.float32), effect, (20, 21))
    motifs = [Motif(rng.dirichlet([0.3] * 4, 12).T, np.zeros(12), 30, -4, True)] * 3
    table = pl.DataFrame(
        {
            "motif": [1, 2, 3], "consensus": ["ACGT"] * 3, "name": ["SP1 <x>", None, "Y"],
            "p": [1e-5, None, 0.2], "e": [0.001, None, 9.0], "seqlets": [30] * 3,
            "share": [0.7] * 3, "offset": [-4] * 3, "direction": ["raises"] * 3,
            "contribution": [0.4] * 3, "effect": [0.2, None, -0.1], "low": [0.1, None, -0.2],
            "high": [0.3, None, 0.0], "backgrounds": [200, None, 200],
        }
    )  # fmt: skip
    flanks = pl.DataFrame(
        {
            "flank": ["WCGW", "mixed", "SCGS"], "sites": [9, 9, 9], "predicted": [0.4, 0.6, 0.8],
            "predicted_low": [0.3, 0.5, None], "predicted_high": [0.5, 0.7, None],
            "measured_sites": [9, 9, 0], "measured": [0.45, 0.55, None],
            "measured_low": [0.4, 0.5, None], "measured_high": [0.5, 0.6, None],
        }
    )  # fmt: skip
    seqlets = [Seqlet(0, 1, 7, 0.5)]
    made = Explanation(found, seqlets, motifs, table, pl.DataFrame(), pl.DataFrame(), flanks)
    path = tmp_path_factory.mktemp("page") / "report.html"
    return write_explanation(made, path, record={"model": "m", "database": "known.meme"})


@pytest.mark.parametrize("width", [1280, 390])
def test_every_picture_is_drawn_named_and_fits(browser, page, width):  # noqa: F811
    _open(browser, page, width, 800)
    wide, room = browser.execute_script(
        "const d = document.documentElement; return [d.scrollWidth, d.clientWidth]"
    )
    assert wide == room <= width
    pictures = browser.execute_script(
        "return [...document.querySelectorAll('main svg')].map((s) => [s.getAttribute('role'),"
        "s.getAttribute('aria-label'), s.getBoundingClientRect().width, s.clientHeight])"
    )
    assert len(pictures) == 5
    for role, label, wide, high in pictures:
        assert role == "img"
        assert len(label) > 20
        assert wide > 100
        assert high > 40
    letters = browser.execute_script(
        "return [...document.querySelectorAll('[class^=base-]')]"
        ".filter((p) => p.getBoundingClientRect().height > 0.4).length"
    )
    assert letters > 50
    assert "SP1 <x>" in browser.find_element("id", "motifs").text
    assert [e for e in browser.get_log("browser") if e["level"] in ("SEVERE", "WARNING")] == []


def test_letters_follow_the_theme(browser, page):  # noqa: F811
    _open(browser, page, 1280, 800)
    fill = "return getComputedStyle(document.querySelector('.base-C')).fill"
    browser.execute_script("document.documentElement.dataset.theme = 'light'")
    light = browser.execute_script(fill)
    browser.execute_script("document.documentElement.dataset.theme = 'dark'")
    assert light == "rgb(0, 103, 168)"
    assert browser.execute_script(fill) != light
