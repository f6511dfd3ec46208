"""The report's page as a reader sees it, in a real browser; and what it cannot do."""

from __future__ import annotations

import base64
import itertools
import re
import shutil
import sqlite3
from collections.abc import Iterator
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from helpers.browser import Browser
from helpers.studies import edited, ended

from gan_bench.cli.results.report import Asked, make_report
from gan_bench.journal.layout import Workspace
from gan_bench.report.inlining import inline
from gan_bench.report.page import yaml_of

pytestmark = pytest.mark.skipif(shutil.which("chromium") is None, reason="no chromium on the PATH")

# Noted before the page's own scripts run: whatever it tries to fetch, and is not allowed to.
SETUP = """
window.refused = []; window.hacked = 0;
document.addEventListener("securitypolicyviolation",
                          event => window.refused.push(event.violatedDirective));
"""
VISIBLE = "[...document.querySelectorAll('{}')].filter(e => e.checkVisibility())"
POISON = ('<script>window.hacked = 1</script> "onload="window.hacked = 1" '
          "<img src=x onerror=window.hacked=1> </script><b>&amp;")
# Of every visible text, how much it stands out from what is behind it (WCAG 2.2, 1.4.3).
CONTRAST = """(() => {
  const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
  const rgb = text => {
    canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = text; canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const light = ([r, g, b]) => [r, g, b].map(x => x / 255).map(
    x => x <= .04045 ? x / 12.92 : ((x + .055) / 1.055) ** 2.4
  ).reduce((sum, x, i) => sum + x * [.2126, .7152, .0722][i], 0);
  const ground = element => {
    for (; element; element = element.parentElement) {
      const colour = rgb(getComputedStyle(element).backgroundColor);
      if (colour[3] > 0) return colour;
    }
    return [255, 255, 255, 255];
  };
  const found = [];
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const element = texts.currentNode.parentElement;
    if (!texts.currentNode.data.trim() || !element.checkVisibility()
        || element.closest("svg, script, style, noscript, option")) continue;
    const [a, b] = [rgb(getComputedStyle(element).color), ground(element)].map(light);
    found.push([(Math.max(a, b) + .05) / (Math.min(a, b) + .05), texts.currentNode.data.trim()]);
  }
  return found.sort((a, b) => a[0] - b[0]).slice(0, 3).concat([[found.length, "texts"]]);
})()"""


def write(root: Path, out: Path, uri: str | None = None) -> Path:
    return make_report(Asked(["losses"], formats="html", out=out), Workspace(root, root, uri),
                       "gan-bench report losses", lambda line: None).files[0]


@pytest.fixture(scope="module")
def page(studies: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(studies, tmp_path_factory.mktemp("page"))


@pytest.fixture(scope="module")
def wide() -> Iterator[Browser]:
    with Browser((1500, 1000), SETUP) as browser:
        yield browser


@pytest.fixture
def browser(wide: Browser, page: Path) -> Browser:
    """The page, loaded anew, by somebody who prefers light."""
    wide.call("Emulation.setEmulatedMedia", media="screen",
              features=[{"name": "prefers-color-scheme", "value": "light"}])
    load(wide, page)
    return wide


def load(browser: Browser, page: Path) -> None:
    browser.open(page.as_uri())
    browser.wait("document.readyState == 'complete' && !!document.querySelector('footer')")


def sources(browser: Browser) -> list[str]:
    found: list[str] = browser.js(VISIBLE.format(".card img") + ".map(image => image.src)")
    return found


def tab(browser: Browser, until: str) -> None:
    """Press the tabulator until the focus is on what a selector names."""
    for _ in range(60):
        browser.press("Tab", 9)
        if browser.js(f"document.activeElement.matches('{until}')"):
            return
    raise AssertionError(f"the tabulator does not come to {until}")


def test_what_it_says_first(browser: Browser) -> None:
    text = browser.text()
    order = [text.index(words) for words in (
        "losses", "Which loss?", "6 runs: 2 variants, 3 seeds; 6 finished", "Answer",
        "By fd_random, which decides", "fd_random, against plain")]
    assert order == sorted(order)
    assert browser.js("[...document.querySelectorAll('h2')].map(h => h.innerText)") == [
        "Answer", "Samples", "Scores", "Curves", "Dynamics", "How it was measured",
        "Runs and failures", "What was run", "To repeat it"]
    assert browser.js("[...document.querySelectorAll('.contents a')].map(a => a.innerText)") == (
        browser.js("[...document.querySelectorAll('h2')].map(h => h.innerText)"))
    assert re.search(r"sat (and|against|is \w+ than) plain", text)
    for words in ("All 6 runs finished.", "margin of equivalence 5%", "not paired",
                  "gan-bench run ", "gan-bench report losses", "saturating", "non_saturating",
                  "SD between sets of latents", "Best checkpoint", "Area under the curve"):
        assert words in text
    assert browser.js("document.querySelectorAll('h1').length") == 1
    levels = browser.js("[...document.querySelectorAll('h1, h2, h3')].map(h => +h.tagName[1])")
    assert all(b - a <= 1 for a, b in itertools.pairwise(levels))


def test_the_slider_moves_every_picture(browser: Browser) -> None:
    last = sources(browser)
    assert len(last) == 2
    assert len(set(last)) == 2
    assert all(source.startswith("data:image/webp;base64,") for source in last)
    tab(browser, "input[type=range]")
    browser.press("ArrowLeft", 37)
    middle = sources(browser)
    assert browser.js("document.querySelector('.slider output').value") == "10"
    assert browser.js("document.activeElement.getAttribute('aria-valuetext')") == "step 10"
    assert all(a != b for a, b in zip(last, middle, strict=True))
    browser.press("Home", 36)
    first = sources(browser)
    assert browser.js("document.querySelector('.slider output').value") == "0"
    assert not {*first} & {*middle}
    assert "step 0" in browser.js("document.querySelector('.card img').alt")
    browser.press("End", 35)
    assert sources(browser) == last
    sizes = browser.js("[...document.querySelectorAll('.card img')].map(i => i.naturalWidth)")
    assert sizes == [8 * 16 + 7] * 2


def test_sixteen_samples_of_a_variant_and_all_of_them_on_a_click(browser: Browser) -> None:
    """Sixteen show at a size that can be judged; a click or a key shows all 64, and back."""
    def state() -> list[Any]:
        return browser.js(  # type: ignore[no-any-return]
            "(c => [c.querySelector('button').ariaExpanded, c.querySelector('.more').textContent, "
            "c.querySelector('.window').clientWidth, c.querySelector('img').clientWidth])"
            "(document.querySelector('.card'))")

    expanded, words, window, image = state()
    assert (expanded, words) == ("false", "Show all 64")
    assert window == 4 * (4 * 16 + 3)  # four times as large as they are
    assert image / window == pytest.approx((8 * 17 - 1) / (4 * 17 - 1), rel=0.01)
    tab(browser, ".card button")
    browser.press(" ", 32)
    expanded, words, window, image = state()
    assert (expanded, words) == ("true", "Show 16")
    assert window == image == 4 * (8 * 16 + 7)
    assert browser.js("document.querySelectorAll('.card')[1].classList.contains('open')") is False
    browser.js("document.querySelector('.card button').click()")
    assert state()[:2] == ["false", "Show all 64"]


def test_the_seed_is_chosen_and_all_seeds_stand_side_by_side(browser: Browser) -> None:
    first = sources(browser)
    tab(browser, ".samples select")
    browser.press("ArrowDown", 40)
    second = sources(browser)
    assert not {*first} & {*second}
    assert "seed 1" in browser.js("document.querySelector('.card img').alt")
    every = "[...document.querySelectorAll('.grids img')]"
    assert not browser.js(f"{every}.some(i => i.checkVisibility())")
    tab(browser, ".samples summary")
    browser.press(" ", 32)
    shown = browser.js(f"{every}.filter(i => i.checkVisibility()).map(i => i.src)")
    assert len(set(shown)) == 6
    assert {*first, *second} <= {*shown}


def test_a_picture_that_is_not_there_is_said_not_to_be(studies: Path, tmp_path: Path, wide: Browser,
                                                       ) -> None:
    uri = edited(studies, tmp_path)
    images = tmp_path / "artifacts" / "images"
    with sqlite3.connect(tmp_path / "copy.db") as db:
        run, place = db.execute("select run_uuid, artifact_uri from runs where artifact_uri like "
                                "'%/losses/%'").fetchone()
        shutil.copytree(Path(place.removeprefix("file://")), images.parent)
        db.execute("update runs set artifact_uri = ? where run_uuid = ?",
                   (images.parent.as_uri(), run))
    next(file for file in images.glob("samples+step+10+*") if "compr" not in file.name).unlink()
    load(wide, write(studies, tmp_path / "out", uri))
    wide.js("document.querySelector('.every').open = true")

    def shown() -> int:
        return int(wide.js(VISIBLE.format(".grids img") + ".length"))

    assert shown() == 6
    tab(wide, "input[type=range]")
    wide.press("ArrowLeft", 37)
    assert shown() == 5
    assert wide.text().count("no picture of this step") >= 1
    wide.press("ArrowRight", 39)
    assert shown() == 6
    assert "no picture of this step" not in wide.text()


def test_the_score_switches_verdicts_table_and_figures(browser: Browser) -> None:
    def shown() -> list[Any]:
        return [browser.js(VISIBLE.format(what) + ".map(e => e.innerText || e.ariaLabel)")
                for what in ("table.scores td", ".view h3", ".view figure svg", ".view dl dd")]

    before = shown()
    assert before[2] == ["Final fd_random of every seed, by variant",
                         "fd_random over training, by variant"]  # no map of a single pair
    tab(browser, "#score")
    browser.press("ArrowDown", 40)
    after = shown()
    assert after[2][0] == "Final classes_covered of every seed, by variant"
    assert all(a != b for a, b in zip(before[:3], after[:3], strict=True))
    assert "classes_covered, against plain" in browser.text()
    assert "fd_random, against plain" not in browser.text()
    browser.press("ArrowUp", 38)
    assert shown() == before
    browser.press("End", 35)
    assert "Neither direction of this score is better" in browser.text()


def test_the_theme_is_the_readers_and_can_be_changed(browser: Browser) -> None:
    def colours() -> tuple[str, str, str]:
        return tuple(browser.js(  # type: ignore[return-value]
            "[[document.body, 'backgroundColor'], [document.body, 'color'], "
            "[document.querySelector('figure svg text'), 'fill']]"
            ".map(([e, key]) => getComputedStyle(e)[key])"))

    light = colours()
    assert light == ("rgb(255, 255, 255)", "rgb(26, 43, 60)", "rgb(26, 43, 60)")
    assert browser.js("document.getElementById('theme').ariaPressed") == "false"
    tab(browser, "#theme")
    browser.press(" ", 32)
    dark = colours()
    assert dark == ("rgb(20, 24, 29)", "rgb(228, 233, 238)", "rgb(228, 233, 238)")
    assert browser.js("document.getElementById('theme').ariaPressed") == "true"
    browser.press(" ", 32)
    assert colours() == light
    browser.call("Emulation.setEmulatedMedia", media="screen",
                 features=[{"name": "prefers-color-scheme", "value": "dark"}])
    browser.js("delete document.documentElement.dataset.theme")
    assert colours() == dark
    browser.call("Emulation.setEmulatedMedia", media="print", features=[
        {"name": "prefers-color-scheme", "value": "dark"}])
    assert colours() == light
    assert not browser.js(VISIBLE.format(".controls, input") + ".length")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_stands_out(browser: Browser, theme: str) -> None:
    browser.js(f"document.documentElement.dataset.theme = '{theme}'")
    browser.js("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    *least, (count, _) = browser.js(CONTRAST)
    assert count > 100
    assert all(contrast >= 4.5 for contrast, _ in least), least


def test_every_colour_of_text_stands_out_on_every_ground() -> None:
    """The colours of the style sheet, 4.5 to 1 at least (WCAG 2.2, 1.4.3)."""
    def luminance(colour: str) -> float:
        levels = [int(colour[i:i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in levels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    css = files("gan_bench.report").joinpath("template.html").read_text("utf-8")
    pairs = dict(re.findall(r"--(\w+): (light-dark\(#\w{6}, #\w{6}\))", css))
    texts = ("ink", "faint", "accent", "better", "worse", "equal")
    assert {"paper", "raised", "line", *texts} == set(pairs)
    for theme in (0, 1):
        colour = {name: re.findall(r"#\w{6}", pair)[theme] for name, pair in pairs.items()}
        for text in texts:
            for ground in ("paper", "raised"):
                bright, dark = sorted((luminance(colour[text]), luminance(colour[ground])))[::-1]
                assert (bright + 0.05) / (dark + 0.05) >= 4.5, (theme, text, ground)


def test_the_focus_is_seen_and_everything_has_a_name(browser: Browser) -> None:
    for what in ("#score", "#theme", ".contents a", ".scroll", ".samples select",
                 "input[type=range]", ".card button", "summary"):
        tab(browser, what)
        outline = browser.js("(s => [s.outlineStyle, parseFloat(s.outlineWidth)])"
                             "(getComputedStyle(document.activeElement))")
        assert outline[0] != "none"
        assert outline[1] >= 2
    nodes = browser.call("Accessibility.getFullAXTree")["nodes"]
    roles = {"slider", "combobox", "button", "image", "table", "region", "img"}
    named = [(node["role"]["value"], node.get("name", {}).get("value", "")) for node in nodes
             if not node["ignored"] and node["role"]["value"] in roles]
    assert {role for role, _ in named} >= {"slider", "combobox", "button", "image", "region"}
    assert [role for role, name in named if not name and role != "table"] == []
    loose = browser.js("[...document.querySelectorAll('th')].filter(h => !h.scope).length")
    assert loose == 0
    assert browser.js("document.querySelectorAll('main').length") == 1


@pytest.mark.parametrize("width", [420, 768, 1440])
def test_nothing_is_wider_than_the_page(wide: Browser, page: Path, width: int) -> None:
    wide.call("Emulation.setDeviceMetricsOverride", width=width, height=1000, deviceScaleFactor=1,
              mobile=False)
    load(wide, page)
    assert wide.js("document.documentElement.scrollWidth") <= width
    used = wide.js("document.querySelector('main').getBoundingClientRect().width")
    assert used >= width - 40  # the page uses its width
    if width < 600:  # the matrix needs no scrolling
        assert wide.js("(m => m.scrollWidth <= m.parentElement.clientWidth)"
                       "(document.querySelector('.matrix'))")
    wide.call("Emulation.setDeviceMetricsOverride", width=1500, height=1000, deviceScaleFactor=1,
              mobile=False)


def printed(browser: Browser, pages: str = "") -> bytes:
    """Return the page as PDF, or some of its pages."""
    answer = browser.call("Page.printToPDF", preferCSSPageSize=True, pageRanges=pages)
    return base64.b64decode(answer["data"])


def test_print_has_all_scores_and_no_empty_last_page(browser: Browser) -> None:
    browser.call("Emulation.setEmulatedMedia", media="print")
    for score in ("fd_random", "classes_covered", "d_accuracy_real"):
        assert f"{score}, against plain" in browser.text()
    browser.call("Emulation.setEmulatedMedia", media="screen")
    count = len(re.findall(rb"/Type\s*/Page\b", printed(browser)))
    assert count > 3
    assert b"/Font" in printed(browser, str(count))  # the last one has text
    with pytest.raises(RuntimeError):
        printed(browser, str(count + 1))


def test_numbers_have_a_true_minus_and_points_below_each_other(browser: Browser) -> None:
    browser.call("Emulation.setEmulatedMedia", media="print")  # all scores
    hyphens = re.findall(r"(?m)(?:^|[\s\[(])-\d\S*", browser.text())
    browser.call("Emulation.setEmulatedMedia", media="screen")
    assert hyphens == []
    places = browser.js("""[...document.querySelectorAll('.matrix tbody tr')].map(row => {
      const texts = document.createTreeWalker(row.cells[1], NodeFilter.SHOW_TEXT);
      const range = document.createRange();
      while (texts.nextNode()) {
        const point = texts.currentNode.data.search(/\\d\\.\\d/);
        if (point < 0) continue;
        range.setStart(texts.currentNode, point + 1); range.setEnd(texts.currentNode, point + 2);
        return range.getBoundingClientRect().x;
      }
    })""")
    assert len(places) == 2
    assert places[0] == pytest.approx(places[1], abs=0.5)


def test_the_matrix_says_its_signs_in_words(browser: Browser) -> None:
    signs = browser.js("[...document.querySelectorAll('.matrix .sign[role=img]')]"
                       ".map(s => [s.innerText, s.ariaLabel])")
    words = {"▲": "better", "▼": "worse", "=": "equivalent", "?": "not decisive"}
    assert len(signs) == 2  # fd_random and classes_covered have a better direction
    assert all(words[sign] == label for sign, label in signs)
    texts = "[...document.querySelectorAll('{}')].map(e => e.textContent.split(' ')[0].trim())"
    order = [browser.js(texts.format(rows))
             for rows in (".matrix tbody th", ".card figcaption", ".grids tbody th",
                          ".view:not([hidden]) .scores tbody th")]
    assert all(names == order[0] for names in order)
    heads = browser.js("[...document.querySelectorAll('.matrix thead th')].map(h => h.innerText)")
    assert [head.partition("\n")[0] for head in heads] == [
        "Variant", "fd_random", "classes_covered", "d_accuracy_real", "d_accuracy_fake"]


def test_it_fetches_nothing_and_could_not(browser: Browser) -> None:
    entries = browser.js("performance.getEntriesByType('resource').map(entry => entry.name)")
    assert [name for name in entries if not name.startswith("data:")] == []
    assert browser.js("window.refused") == []
    browser.js("fetch('https://example.org').catch(() => 0)")
    browser.js("{ const i = new Image(); i.src = 'https://example.org/x.png'; "
               "document.body.append(i); }")
    browser.js("{ const s = document.createElement('script'); s.textContent = 'window.hacked = 1';"
               "document.body.append(s); }")
    refused = browser.wait("window.refused", until=lambda found: len(found) >= 3)
    assert {"connect-src", "img-src", "script-src-elem"} <= set(refused)
    assert browser.js("window.hacked") == 0


def test_without_scripts_all_scores_and_the_last_samples_are_there(page: Path) -> None:
    with Browser((1500, 1000)) as plain:
        plain.call("Emulation.setScriptExecutionDisabled", value=True)
        plain.open(page.as_uri())
        text = ""
        for _ in range(100):
            text = plain.call("Runtime.evaluate", expression="document.body?.innerText",
                              returnByValue=True)["result"].get("value") or ""
            if "Made by gan-bench" in text:
                break
        assert "fd_random, against plain" in text
        assert "classes_covered, against plain" in text
        assert "Dark theme" not in text
        assert len(sources(plain)) == 2


class Reader(HTMLParser):
    """What a page consists of."""

    def __init__(self) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.references: list[str] = []
        self.scripts = 0
        self.handlers: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.scripts += tag == "script"
        for key, value in attrs:
            if key == "id":
                self.ids.append(value or "")
            if key.startswith("on"):
                self.handlers.append(f"{tag} {key}")
            self.references += re.findall(r"url\(#([^)]*)\)", value or "")
            if key == "href" and value and value.startswith("#"):
                self.references.append(value[1:])


def test_ids_are_unique_and_references_lead_somewhere(page: Path) -> None:
    reader = Reader()
    reader.feed(page.read_text())
    assert len(reader.ids) == len(set(reader.ids)) > 100
    assert set(reader.references) <= set(reader.ids)
    assert len(reader.references) > 100
    assert "#1a2b3c" not in page.read_text().split("</style>", 1)[1]


def test_nothing_from_mlflow_becomes_code(studies: Path, tmp_path: Path, wide: Browser) -> None:
    quoted = POISON.replace("'", "''")
    uri = edited(studies, tmp_path, [
        *ended("sat", 0, "FAILED", quoted),
        f"update tags set value = '{quoted}' where key = 'variant' and value = 'sat'",
        f"update tags set value = '{quoted}' where key = 'torch_version'",
        f"update params set value = '{quoted}' where key in ('loss', 'order')",
        "update experiment_tags set value = json_object('question', '" + quoted + "', 'command', '"
        + quoted + "', 'baseline', 'plain')",
        f"update experiments set name = '{quoted}' where name = 'losses'"])
    out = make_report(Asked([POISON], formats="html", out=tmp_path / "out"),
                      Workspace(tmp_path, tmp_path, uri), f"gan-bench report {POISON}",
                      lambda line: None).files[0]
    reader = Reader()
    reader.feed(out.read_text())
    assert (reader.scripts, reader.handlers) == (2, [])  # the data of the pictures, and the script
    load(wide, out)
    text = wide.text()
    assert wide.js("window.hacked") == 0
    assert wide.js("window.refused") == []
    assert text.count(POISON) >= 10  # in its place, as text
    assert wide.js("document.title") == f"{POISON} · gan-bench"
    assert wide.js("document.querySelectorAll('b, img[onerror]').length") == 0
    tab(wide, "input[type=range]")
    wide.press("Home", 36)
    assert len(sources(wide)) == 2


def test_a_figure_becomes_part_of_the_page() -> None:
    svg = b"""<?xml version="1.0"?><!-- --><svg xmlns="http://www.w3.org/2000/svg"
        xmlns:xlink="http://www.w3.org/1999/xlink" width="576pt" height="9pt" viewBox="0 0 1 1">
        <metadata>x</metadata><defs><style>*{}</style><path id="a" d="M 1.23456 2"/></defs>
        <use xlink:href="#a" style="fill: #1a2b3c; clip-path: url(#p)"/>
        <g clip-path="url(#p)"><clipPath id="p"/></g><text>&lt;b&gt; #1a2b3c</text></svg>"""
    found = inline(svg, "f7-", 'say "this"')
    assert found.startswith('<svg viewBox="0 0 1 1" style="--width: 768px" role="img" '
                            'aria-label="say &quot;this&quot;">')
    assert '<path id="f7-a" d="M 1.23 2" />' in found
    assert 'href="#f7-a" style="fill: currentColor; clip-path: url(#f7-p)"' in found
    assert '<g clip-path="url(#f7-p)"><clipPath id="f7-p" /></g>' in found
    assert "<text>&lt;b&gt; #1a2b3c</text>" in found
    assert "metadata" not in found
    assert "<style" not in found


def test_params_as_yaml() -> None:
    flat = {"model": "mlp", "model.width": "16", "loss": "hinge", "evaluate.every": "5",
            "evaluate.metrics": '["fid"]'}
    assert yaml_of(flat).splitlines() == [
        "model: {name: mlp, width: 16}", "loss: hinge", 'evaluate: {every: 5, metrics: ["fid"]}']
