"""A trace's graph in a real Chromium: drawn, walked, filtered, sorted, folded, saved (made up)."""

import math

import pytest
from test_report_browser import _open, browser  # noqa: F401

from melisma.report import write_traces
from melisma.trace import Edge, Node, Trace

pytestmark = pytest.mark.browser

BAD = "<script>alert(1)</script>"
STRONG = "chr1:1,000-2,000 (a region with a long name)"


def study():
    nodes = (
        Node("smoking", 0, "exposure"), Node("age", 0, "covariate"), Node(STRONG, 1, "region", 0.4),
        Node(BAD, 1, "region", 0.05, {"<i>": "</script>"}), Node("gene", 2, "expression"),
        Node("weight", 3, "phenotype"),
    )  # fmt: skip
    edges = (
        Edge("smoking", STRONG, 0.2, 0.05, "mediation", {"p": 0.001, "interval": [0.1, 0.3]}),
        Edge("smoking", BAD, 0.1, 0.2, "mediation"), Edge("age", BAD, -0.05, None, "mediation"),
        Edge(STRONG, "gene", -0.8, 0.1, "mediation"), Edge(BAD, "gene", 0.2, 0.1, "<b>bold</b>"),
        Edge("gene", "weight", 0.6, 0.1, "mediation"),
        Edge("smoking", "weight", 0.25, 0.1, "mediation"),
    )  # fmt: skip
    return Trace(nodes, edges, "weight", 1.0, 0.1, "kg", ("No confounding.",))


def reading(width=61):
    names = [f"{k - width // 2:+d} {'ACGT'[k % 4]}" for k in range(width)]
    nodes = (*(Node(name, 0, "base") for name in names), Node("level", 1, "level", -0.9))
    edges = tuple(
        Edge(name, "level", math.sin(k) / (1 + abs(k - width // 2)), 0.01, "gradients")
        for k, name in enumerate(names)
    )
    return Trace(nodes, edges, "level", 0.5, None, "log odds")


def large(nodes=800, edges=5000):
    layers = 8
    names = [f"layer {k % layers} head {k // layers}" for k in range(nodes)]
    made, k = {}, 0
    while len(made) < edges:
        a, b = (k * 7919) % nodes, (k * 104729 + k // nodes) % nodes
        k += 1
        if a % layers < b % layers:
            made[names[a], names[b]] = math.sin(k) ** 5
        made[names[a], "logit"] = math.cos(k) ** 9
    return Trace(
        (*(Node(name, i % layers, "head") for i, name in enumerate(names)), Node("logit", layers)),
        tuple(Edge(*ends, effect) for ends, effect in made.items()), "logit", 3.0,
    )  # fmt: skip


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("traces")
    joined = study().join(reading(21), STRONG)
    told = {"study": study(), "reading": reading(), "large": large(), "joined": joined}
    every = {name: write_traces(trace, folder / f"{name}.html") for name, trace in told.items()}
    return every | {"all": write_traces(told, folder / "all.html")}


def faults(browser):  # noqa: F811
    return [e for e in browser.get_log("browser") if e["level"] in ("SEVERE", "WARNING")]


def drawn(browser, what):  # noqa: F811
    return browser.execute_script(f"return document.querySelectorAll('.trace-graph {what}').length")


def text(browser, selector):  # noqa: F811
    return browser.execute_script(f"return document.querySelector({selector!r}).textContent")


def click(browser, name):  # noqa: F811
    browser.execute_script(
        "[...document.querySelectorAll('.node')].find((n) => n.getAttribute('aria-label')"
        ".includes(arguments[0])).dispatchEvent(new MouseEvent('click', { bubbles: true }))",
        name,
    )


def put(browser, name, value, kind="input"):  # noqa: F811
    browser.execute_script(
        "const c = document.querySelector('.trace form').elements[arguments[0]];"
        "c.value = arguments[1]; c.dispatchEvent(new Event(arguments[2], { bubbles: true }))",
        name, value, kind,
    )  # fmt: skip


@pytest.mark.parametrize("width", [400, 1400])
@pytest.mark.parametrize("name", ["study", "reading", "large", "joined", "all"])
def test_every_trace_is_drawn_fits_and_no_label_covers_another(browser, pages, name, width):  # noqa: F811
    _open(browser, pages[name], width, 900)
    wide, room = browser.execute_script(
        "const d = document.documentElement; return [d.scrollWidth, d.clientWidth]"
    )
    assert wide == room <= width
    assert drawn(browser, ".node") >= 6
    assert drawn(browser, ".node") <= 60 * (4 if name == "all" else 1)
    covered = browser.execute_script("""
      const over = [];
      for (const graph of document.querySelectorAll('.trace-graph')) {
        const every = [...graph.querySelectorAll('text')];
        const boxes = every.map((t) => [t, t.getBoundingClientRect()]);
        boxes.forEach(([a, p], i) => boxes.slice(i + 1).forEach(([b, q]) => {
          const beside = p.left >= q.right - 1 || q.left >= p.right - 1;
          const apart = p.top >= q.bottom - 2 || q.top >= p.bottom - 2;
          if (!beside && !apart) over.push([a.textContent, b.textContent]);
        }));
      }
      return over;""")
    assert covered == []
    outside = browser.execute_script("""
      return [...document.querySelectorAll('.node')].filter((node) => {
        const box = node.querySelector('rect').getBoundingClientRect();
        return [...node.querySelectorAll('text')].some((t) => {
          const own = t.getBoundingClientRect();
          return own.left < box.left - 1 || own.right > box.right + 1;
        });
      }).map((n) => n.textContent)""")
    assert outside == []
    assert faults(browser) == []


def test_a_node_lights_its_paths_and_says_what_is_known_of_it(browser, pages):  # noqa: F811
    _open(browser, pages["study"], 1400, 900)
    click(browser, STRONG)
    panel = browser.find_element("css selector", ".trace-panel").text
    assert panel.splitlines()[0] == "×"
    for words in (
        STRONG, "region", "value\n0.4", "Goes out by 1 edge", "gene\n−0.80 ± 0.10",
        "Comes in by 1 edge", "smoking\n+0.200 ± 0.050", "p 0.001 · interval 0.1, 0.3",
    ):  # fmt: skip
        assert words in panel
    lit = browser.execute_script(
        "return [...document.querySelectorAll('.node.lit')].map((n) => n.ariaLabel).sort()"
    )
    assert lit == sorted(
        ["exposure smoking", f"region {STRONG} 0.4", "expression gene", "phenotype weight"]
    )
    assert drawn(browser, ".edge.lit") == 3
    browser.execute_script("document.querySelector('.trace-panel button.link').click()")
    assert "Comes in by 2 edges" in browser.find_element("css selector", ".trace-panel").text
    click(browser, BAD)
    panel = browser.find_element("css selector", ".trace-panel").text
    assert BAD in panel
    assert "<i>\n</script>" in panel
    assert "<b>bold</b>" in panel
    assert faults(browser) == []


def test_keys_walk_choose_and_let_go(browser, pages):  # noqa: F811
    from selenium.webdriver.common.keys import Keys

    _open(browser, pages["study"], 1400, 900)
    assert (
        browser.execute_script("return document.querySelectorAll('.node[tabindex=\"0\"]').length")
        == 1
    )
    browser.execute_script("document.querySelector('.node[tabindex=\"0\"]').focus()")
    here = lambda: browser.execute_script("return document.activeElement.ariaLabel")  # noqa: E731
    assert here() == "phenotype weight"
    for key, there in (
        (Keys.ARROW_LEFT, "expression gene"), (Keys.ARROW_LEFT, None), (Keys.ARROW_LEFT, None),
        (Keys.ARROW_UP, None), (Keys.ARROW_RIGHT, None),
    ):  # fmt: skip
        browser.switch_to.active_element.send_keys(key)
        assert there is None or here() == there
    assert here().startswith("region")
    browser.switch_to.active_element.send_keys(Keys.ENTER)
    assert browser.execute_script("return document.activeElement.ariaPressed") == "true"
    assert "Goes out by" in browser.find_element("css selector", ".trace-panel").text
    browser.switch_to.active_element.send_keys(Keys.ESCAPE)
    assert "Choose a node" in browser.find_element("css selector", ".trace-panel").text


def test_the_filter_the_sign_and_the_search_change_what_is_drawn(browser, pages):  # noqa: F811
    _open(browser, pages["reading"], 1400, 900)
    before = drawn(browser, ".edge")
    assert before == 20
    words = text(browser, ".trace-status")
    assert words.startswith("21 of 62 nodes and 20 of 61 edges are drawn. Those into level sum to")
    put(browser, "strongest", 2)
    assert drawn(browser, ".edge") == 3
    put(browser, "strongest", 99)
    assert drawn(browser, ".edge") == 61
    assert text(browser, ".trace-status") == "The whole is drawn: 61 edges and 62 nodes."
    effects = [edge.effect for edge in reading().edges]
    put(browser, "sign", -1, "change")
    assert drawn(browser, ".edge") == sum(effect < 0 for effect in effects)
    assert drawn(browser, ".edge.raises") == 0
    put(browser, "sign", 0, "change")
    put(browser, "strongest", 0)
    put(browser, "find", "-30")
    assert "1 node has “-30” in the name, 1 not drawn" in text(browser, ".trace-status")
    browser.execute_script("document.querySelector('.trace form').requestSubmit()")
    assert drawn(browser, ".node.kept.found") == 1
    assert drawn(browser, ".edge") == 2
    assert "-30 A" in browser.find_element("css selector", ".trace-panel").text


def test_the_table_is_sorted_and_has_every_edge(browser, pages):  # noqa: F811
    _open(browser, pages["large"], 1400, 900)
    count = text(browser, ".trace-count")
    assert count.startswith("20 rows shown of 5,0")
    column = (
        "return [...document.querySelectorAll('.trace-table tbody tr')].map((r) => "
        "parseFloat(r.cells[2].textContent.replace('−', '-')))"
    )
    sizes = [abs(value) for value in browser.execute_script(column)]
    assert sizes == sorted(sizes, reverse=True)
    button = "document.querySelector('.trace-table [data-column=effect]').click()"
    browser.execute_script(button)
    falling = browser.execute_script(column)
    assert falling == sorted(falling, reverse=True)
    browser.execute_script(button)
    rising = browser.execute_script(column)
    assert rising == sorted(rising) != falling
    state = "return document.querySelector('.trace-table th[aria-sort]').getAttribute('aria-sort')"
    assert browser.execute_script(state) == "ascending"
    browser.execute_script("document.querySelector('.trace [name=more]').click()")
    assert len(browser.execute_script(column)) == 120
    put(browser, "find", "head 99")
    shown = browser.execute_script(
        "return [...document.querySelectorAll('.trace-table tbody tr')].map((r) => r.textContent)"
    )
    assert shown
    assert all("head 99" in row for row in shown)


def test_what_hangs_under_a_node_folds(browser, pages):  # noqa: F811
    _open(browser, pages["joined"], 1400, 900)
    assert drawn(browser, ".zone.under") == 1
    assert drawn(browser, ".node.stands") == 1
    before = drawn(browser, ".node")
    browser.execute_script(
        "document.querySelector('.chip').dispatchEvent(new MouseEvent('click', { bubbles: true }))"
    )
    assert drawn(browser, ".zone.under") == 0
    assert drawn(browser, ".node") == 6 < before
    click(browser, STRONG)
    panel = browser.find_element("css selector", ".trace-panel")
    assert "What hangs under it explains" in panel.text
    browser.execute_script(
        "[...document.querySelectorAll('.trace-panel button')].find((b) => "
        "b.textContent === 'Unfold 21 nodes under it').click()"
    )
    assert drawn(browser, ".zone.under") == 1
    title = browser.execute_script(
        "return document.querySelector('.zone.under .title').textContent"
    )
    assert title.startswith("Under chr1:1,000-2,000")
    assert faults(browser) == []


def test_zoom_drag_and_fit(browser, pages):  # noqa: F811
    from selenium.webdriver import ActionChains

    _open(browser, pages["study"], 1400, 900)
    place = "return document.querySelector('.trace-graph > g').getAttribute('transform')"
    fitted = browser.execute_script(place)
    browser.execute_script("document.querySelector('[data-zoom=\"1.3\"]').click()")
    assert browser.execute_script(place) != fitted
    browser.execute_script("document.querySelector('[data-zoom=\"0\"]').click()")
    assert browser.execute_script(place) == fitted
    graph = browser.find_element("css selector", ".trace-graph")
    browser.execute_script(
        "arguments[0].scrollIntoView({ behavior: 'instant', block: 'center' })", graph
    )
    corner = graph.size["height"] // 2 - 6
    hand = ActionChains(browser).move_to_element_with_offset(graph, 0, corner)
    hand.click_and_hold().move_by_offset(40, 10).release().perform()
    assert browser.execute_script(place) != fitted
    assert "Choose a node" in browser.find_element("css selector", ".trace-panel").text


def test_the_json_that_is_saved_is_the_trace(browser, pages):  # noqa: F811
    _open(browser, pages["joined"], 1400, 900)
    browser.execute_script("document.querySelector('.trace form').elements.save.click()")
    saved = browser.downloads / "trace-1.json"
    for _ in range(100):
        if saved.exists() and saved.stat().st_size:
            break
        browser.execute_async_script("setTimeout(arguments[0], 50)")
    assert Trace.load(saved) == study().join(reading(21), STRONG)


def test_colours_follow_the_theme(browser, pages):  # noqa: F811
    _open(browser, pages["study"], 1400, 900)
    stroke = "return getComputedStyle(document.querySelector('.edge.lowers')).stroke"
    browser.execute_script("document.documentElement.dataset.theme = 'light'")
    assert browser.execute_script(stroke) == "rgb(0, 103, 168)"
    browser.execute_script("document.documentElement.dataset.theme = 'dark'")
    assert browser.execute_script(stroke) == "rgb(88, 170, 240)"
