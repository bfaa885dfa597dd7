"""The report in a real Chromium: drawn, sorted, filtered, saved, both themes, phone, paper."""

import shutil
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from report_run import P, make_run

from melisma.report import write_report
from melisma.report._style import DARK, LIGHT
from melisma.report._words import probability

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_run(tmp_path_factory.mktemp("report") / "run")
    write_report(folder)
    return folder


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Any:
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not chromium or not driver:
        pytest.skip("chromium or chromedriver is not installed")
    webdriver = pytest.importorskip("selenium.webdriver")
    from selenium.webdriver.chrome.service import Service

    profile, downloads = (tmp_path_factory.mktemp(name) for name in ("profile", "downloads"))
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in (
        "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync",
        "--disable-background-networking", "--disable-component-update",
        f"--user-data-dir={profile}",
    ):  # fmt: skip
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    options.add_experimental_option("prefs", {"download.default_directory": str(downloads)})
    chrome = webdriver.Chrome(options=options, service=Service(driver))
    chrome.downloads = downloads
    yield chrome
    chrome.quit()


def _open(browser: Any, page: Path, width: int, height: int) -> None:
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600},
    )
    browser.get(page.as_uri())


def _wait(browser: Any, script: str) -> Any:
    from selenium.webdriver.support.ui import WebDriverWait

    return WebDriverWait(browser, 60).until(lambda b: b.execute_script(f"return {script}"))


def _draw_all(browser: Any) -> None:
    _wait(browser, "document.querySelectorAll('.plot .main-svg').length > 0")
    browser.execute_async_script(
        """const done = arguments[0], places = [...document.querySelectorAll('.plot')];
        (async () => {
          for (const place of places) {
            place.scrollIntoView({behavior: 'instant'});
            for (let i = 0; i < 200 && !place.querySelector('.main-svg'); i++)
              await new Promise((r) => setTimeout(r, 10));
          }
          done();
        })();"""
    )


def test_the_page_draws_sorts_filters_and_saves(browser: Any, run_folder: Path) -> None:
    _open(browser, run_folder / "report.html", 1280, 720)
    _draw_all(browser)
    figures = browser.execute_script("return document.querySelectorAll('.plot').length")
    drawn = browser.execute_script(
        "return [...document.querySelectorAll('.plot')]"
        ".filter((p) => p.querySelector('.main-svg')).length"
    )
    assert drawn == figures > 10
    browser.execute_script("document.querySelector('[data-table=\"main.cell.sites\"]').click()")
    cells = "[...document.querySelectorAll('#table tbody tr')].map((r) => r.cells[{}].textContent)"
    head = browser.execute_script(
        "return [...document.querySelectorAll('#table th')].map((h) => h.textContent)"
    )
    p = cells.format(head.index("p"))
    shown = [probability(v) for v in sorted(v for v in P if v is not None)]
    assert browser.execute_script(f"return {p}") == shown
    button = "document.querySelector('#table button[data-column=position]').click()"
    browser.execute_script(button)
    position = cells.format(head.index("position"))
    ascending = browser.execute_script(f"return {position}")
    assert ascending[:3] == ["50", "100", "150"]
    browser.execute_script(button)
    assert browser.execute_script(f"return {position}") == ascending[::-1]
    state = "document.querySelector('#table th[aria-sort]')"
    assert browser.execute_script(f"return {state}.getAttribute('aria-sort')") == "descending"
    browser.execute_script(
        "const f = document.getElementById('table-filter'); f.value = 'chr1:150-261';"
        "f.dispatchEvent(new Event('input'))"
    )
    assert browser.execute_script(f"return {position}") == ["260", "200", "150"]
    browser.execute_script("document.getElementById('table-download').click()")
    saved = browser.downloads / "main.cell.sites.tsv"
    _wait(browser, "true")
    for _ in range(100):
        if saved.exists() and saved.stat().st_size:
            break
        browser.execute_async_script("setTimeout(arguments[0], 50)")
    table = pl.read_csv(saved, separator="\t")
    assert table["position"].to_list() == [260, 200, 150]
    assert table["p"].to_list() == [0.004, 2e-5, 1e-7]
    assert [e for e in browser.get_log("browser") if e["level"] in ("SEVERE", "WARNING")] == []
    loaded = browser.execute_script(
        "return performance.getEntriesByType('resource').map((e) => e.name)"
    )
    assert [name for name in loaded if name.startswith("http")] == []


def test_the_theme_follows_the_system_and_the_toggle(browser: Any, run_folder: Path) -> None:
    browser.execute_cdp_cmd(
        "Emulation.setEmulatedMedia",
        {"features": [{"name": "prefers-color-scheme", "value": "dark"}]},
    )
    _open(browser, run_folder / "report.html", 1280, 720)
    browser.execute_script("localStorage.clear()")
    _open(browser, run_folder / "report.html", 1280, 720)
    _draw_all(browser)
    fill = "document.querySelector('[data-figure=\"main.cell.qq\"] .points path').style.fill"
    assert browser.execute_script("return document.documentElement.dataset.theme") == "dark"
    dark = browser.execute_script(f"return {fill}")
    browser.execute_script("document.getElementById('theme').click()")
    assert browser.execute_script("return document.documentElement.dataset.theme") == "light"
    light = browser.execute_script(f"return {fill}")
    values = [tuple(int(v[i : i + 2], 16) for i in (1, 3, 5)) for v in (DARK["ink"], LIGHT["ink"])]
    assert [dark, light] == [f"rgb({r}, {g}, {b})" for r, g, b in values]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def test_a_phone_shows_it_without_sideways_scrolling(browser: Any, run_folder: Path) -> None:
    _open(browser, run_folder / "report.html", 390, 844)
    _draw_all(browser)
    assert browser.execute_script("return document.documentElement.scrollWidth") == 390
    assert browser.execute_script("return document.querySelector('h1').offsetWidth") <= 358


def test_paper_is_light_and_plots_fit_it(browser: Any, run_folder: Path) -> None:
    _open(browser, run_folder / "report.html", 1280, 720)
    browser.execute_script(
        "document.documentElement.dataset.theme = 'dark'; dispatchEvent(new Event('beforeprint'))"
    )
    _wait(
        browser,
        "[...document.querySelectorAll('.plot')].every((p) => {"
        "const s = p.querySelector('.main-svg'); return s && s.getAttribute('viewBox') === "
        "`0 0 ${s.getAttribute('width')} ${s.getAttribute('height')}`})",
    )
    assert browser.execute_script("return document.querySelectorAll('.plot').length") > 3
    # Once everything is drawn, paper is ready when the event returns: nothing is waited for.
    browser.execute_script("dispatchEvent(new Event('afterprint'))")
    browser.execute_script("dispatchEvent(new Event('beforeprint'))")
    plots = browser.execute_script(
        "return [...document.querySelectorAll('.plot')].map((p) => {"
        "const s = p.querySelector('.main-svg');"
        "return [s.getAttribute('viewBox'), `0 0 ${s.getAttribute('width')} "
        "${s.getAttribute('height')}`]})"
    )
    assert plots
    assert all(box == drawn for box, drawn in plots)
    assert browser.execute_script("return document.documentElement.dataset.theme") == "light"
    browser.execute_script("dispatchEvent(new Event('afterprint'))")
    assert browser.execute_script("return document.documentElement.dataset.theme") == "dark"


def test_the_keyboard_reaches_everything(browser: Any, run_folder: Path) -> None:
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    _open(browser, run_folder / "report.html", 1280, 720)
    browser.find_element(By.TAG_NAME, "body").send_keys(Keys.TAB)
    assert browser.switch_to.active_element.text == "Skip to the summary"
    reached = set()
    for _ in range(400):
        element = browser.switch_to.active_element
        reached.add(element.get_attribute("id"))
        if "table-download" in reached:
            break
        element.send_keys(Keys.TAB)
    assert {"theme", "table-choice", "table-filter", "table-significant"} <= reached
