"""The page with a keyboard, a screen reader, on a phone, in light and in dark."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys

from tests.serve import browser
from tests.serve.axe import violations
from tests.serve.browser import DESKTOP, PHONE, Page, running_browser
from tests.serve.conftest import png
from tests.serve.server_process import ServerProcess
from tests.serve.test_page import write
from tests.serve.test_page_series import study

pytestmark = pytest.mark.skipif(
    not (browser.CHROMIUM and browser.DRIVER),
    reason="the page is tested in Chromium: apt-get install chromium chromium-driver",
)

# WCAG 2.2, 1.4.3: 4.5 for text, 3 for large text (24 px, or 18.66 px and bold).
CONTRASTS = """
const luminance = ([r, g, b]) => [r, g, b]
  .map((v) => v / 255).map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
  .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
const rgba = (text) => text.match(/[\\d.]+/g).map(Number);
function ground(element) {
  for (let e = element; e; e = e.parentElement) {
    const colour = rgba(getComputedStyle(e).backgroundColor);
    if (colour.length === 3 || colour[3] > 0) return colour;
  }
  return [255, 255, 255];
}
const found = [];
for (const element of document.body.querySelectorAll("*")) {
  const own = [...element.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
  if (!own || !element.checkVisibility() || element.disabled) continue;
  const style = getComputedStyle(element);
  const [a, b] = [rgba(style.color), ground(element)].map(luminance).sort((x, y) => y - x);
  const size = parseFloat(style.fontSize);
  const large = size >= 24 || (size >= 18.66 && style.fontWeight >= 700);
  const text = `${element.tagName}.${element.className} ${element.innerText.slice(0, 30)}`;
  found.push([text, (a + 0.05) / (b + 0.05), large ? 3 : 4.5]);
}
return found;
"""
FOCUS = """
const e = document.activeElement;
const label = e.id && document.querySelector(`.pick label[for="${e.id}"]`);
const shown = getComputedStyle(label || e);
const name = e === document.body ? "BODY" : e.id || e.className || e.tagName;
return [name, shown.outlineStyle, parseFloat(shown.outlineWidth)];
"""


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[browser.webdriver.Chrome]:
    with running_browser(tmp_path_factory.mktemp("profile")) as chromium:
        yield chromium


@pytest.fixture
def page(driver: browser.webdriver.Chrome, trial_server: ServerProcess) -> Page:
    return Page(driver, trial_server.url)


def with_results(page: Page, folder: Path, size: tuple[int, int], scheme: str) -> None:
    """Open the page and score three scans, one of which cannot be read."""
    page.look(size, scheme)
    page.until(lambda: page.find("#about").is_displayed())
    page.choose(write(folder, good=png(60), wall=png(255, size=6), broken=b"no image"))
    page.status_ends("3 scans done")
    page.find("#about summary").click()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_contrast_and_width(page: Page, size: tuple[int, int], scheme: str, tmp_path: Path) -> None:
    with_results(page, tmp_path, size, scheme)
    page.driver.execute_script("document.querySelector('.card .warn').hidden = false")
    page.driver.execute_script("document.querySelector('.card .warn').textContent = 'Doubtful'")
    found: list[tuple[str, float, float]] = page.driver.execute_script(CONTRASTS)
    assert len(found) > 30
    assert [entry for entry in found if entry[1] < entry[2]] == []
    ground = page.find("body").value_of_css_property("background-color")
    brightness = sum(int(part) for part in ground.strip("rgba()").split(",")[:3]) / 3
    assert brightness > 200 if scheme == "light" else brightness < 50
    width, shown = page.driver.execute_script(
        "return [document.documentElement.scrollWidth, innerWidth]"
    )
    assert width <= shown


BOTH = [(DESKTOP, "light"), (PHONE, "dark")]
OTHERS = [(DESKTOP, "dark"), (PHONE, "light")]


@pytest.mark.parametrize(
    ("size", "scheme"),
    [*BOTH, *(pytest.param(*other, marks=pytest.mark.slow) for other in OTHERS)],
    ids=lambda value: value if isinstance(value, str) else ("desktop", "phone")[value == PHONE],
)
def test_axe_finds_nothing_in_any_state(
    page: Page, size: tuple[int, int], scheme: str, tmp_path: Path
) -> None:
    found: dict[str, list[str]] = {}
    page.look(size, scheme)
    page.until(lambda: page.find("#about").is_displayed())
    page.find("#about summary").click()
    found["empty, about the model"] = violations(page)
    scans = write(tmp_path, good=png(60), wall=png(255, size=6), unsure=b"undecided", broken=b"x")
    page.choose([*scans, study(tmp_path, A={0.0: 90, 10.0: 30}, B={0.0: 30, 10.0: 60})])
    page.status_ends("9 scans done", "2 series.")
    page.find("#left-out summary").click()
    page.find("#explain").click()
    page.driver.execute_script("document.querySelector('.series .heat').click()")
    page.until(lambda: page.find(".series .glow").is_displayed())
    found["scans, series, heat map, files left out"] = violations(page)
    page.driver.execute_script("document.querySelector('.series .compare').click()")
    page.until(lambda: len(page.texts("#stage .caption")) == 2)
    page.find("#stage .measure").click()
    found["two series side by side"] = violations(page)
    page.find("#stage-close").click()
    page.driver.execute_script("document.querySelector('.enlarge:enabled').click()")
    page.until(lambda: page.find("#stage .sheet").is_displayed())
    found["one scan enlarged"] = violations(page)
    assert not any(found.values()), found
    assert len(found) == 4


def test_axe_finds_nothing_without_a_key_and_without_javascript(
    driver: browser.webdriver.Chrome,
    trial_server: ServerProcess,
    keyed_server: ServerProcess,
    tmp_path: Path,
) -> None:
    page = Page(driver, keyed_server.url)
    page.look(PHONE)
    page.until(lambda: page.find("#key-dialog").is_displayed())
    found = {"key dialogue": violations(page)}
    page.find("#key-later").click()
    found["key missing"] = violations(page)
    page = Page(driver, trial_server.url)
    page.look(DESKTOP, "dark", scripts=False)
    page.choose([*write(tmp_path, good=png(60), broken=b"x"), study(tmp_path, A={0.0: 9, 9.0: 3})])
    page.find("#form button[type=submit]").click()
    page.until(lambda: "Results for" in page.find("h1").text)
    page.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
    found["tables"] = violations(page)
    assert not any(found.values()), found


def test_targets_on_a_phone(page: Page, tmp_path: Path) -> None:
    with_results(page, tmp_path, PHONE, "light")
    assert page.find(".camera").is_displayed()
    assert "Drop" not in page.find(".drop-title").text
    heights = page.driver.execute_script(
        "return [...document.querySelectorAll('button, .button, .switch')]"
        ".filter((e) => e.checkVisibility()).map((e) => e.getBoundingClientRect().height)"
    )
    assert len(heights) >= 4
    assert min(heights) >= 44  # WCAG 2.2, 2.5.5
    page.look(DESKTOP)
    assert not page.find(".camera").is_displayed()


def press(page: Page, key: str) -> None:
    """Press a key as a person does, whatever has the focus."""
    ActionChains(page.driver).send_keys(key).perform()


def test_keyboard_reaches_everything_and_shows_where_it_is(page: Page, tmp_path: Path) -> None:
    with_results(page, tmp_path, DESKTOP, "light")
    page.driver.execute_script("document.body.tabIndex = -1; document.body.focus()")
    reached: list[str] = []
    for _ in range(40):
        press(page, Keys.TAB)
        name, style, width = page.driver.execute_script(FOCUS)
        if name == "BODY":
            break
        reached.append(name)
        assert style != "none", name
        assert width >= 1, name
    assert reached[0] == "skip"
    controls = {"explain", "csv", "print", "clear", "filter", "sort", "choose", "folder"}
    assert controls <= set(reached)
    assert [reached.count(name) for name in ("card done", "card failed")] == [2, 1]
    assert reached.count("enlarge") == 2
    page.driver.execute_script("document.querySelector('#clear').focus()")
    press(page, Keys.ENTER)
    page.until(lambda: page.texts(".card") == [])


def nodes(page: Page) -> list[dict[str, Any]]:
    """Return Chromium's accessibility tree: what a screen reader is told."""
    page.driver.execute_cdp_cmd("Accessibility.enable", {})
    tree = page.driver.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    return [
        {
            "role": node.get("role", {}).get("value"),
            "name": node.get("name", {}).get("value", ""),
            "level": next(
                (p["value"]["value"] for p in node.get("properties", []) if p["name"] == "level"),
                None,
            ),
        }
        for node in tree
        if not node.get("ignored")
    ]


def test_what_a_screen_reader_is_told(page: Page, tmp_path: Path) -> None:
    with_results(page, tmp_path, DESKTOP, "light")
    tree = nodes(page)
    roles = [node["role"] for node in tree]
    assert {"main", "banner", "contentinfo", "status", "list"} <= set(roles)
    controls = {"button", "checkbox", "textbox", "link", "meter", "image"}
    assert [node for node in tree if node["role"] in controls and not node["name"]] == []
    meters = [node["name"] for node in tree if node["role"] == "meter"]
    assert meters[:4] == [
        "adenocarcinoma", "large cell carcinoma", "normal", "squamous cell carcinoma",
    ]  # fmt: skip
    levels = [node["level"] for node in tree if node["role"] == "heading"]
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
    assert any("Choose scans" in node["name"] for node in tree if node["role"] == "button")
    assert page.find("html").get_attribute("lang") == "en"
    assert page.find("#status").get_attribute("aria-live") == "polite"


def test_key_dialog_has_a_label_and_closes_with_escape(
    driver: browser.webdriver.Chrome, keyed_server: ServerProcess
) -> None:
    page = Page(driver, keyed_server.url)
    page.look()
    page.until(lambda: page.find("#key-dialog").is_displayed())
    dialog = next(node for node in nodes(page) if node["role"] == "dialog")
    assert dialog["name"] == "This server asks for an API key"
    press(page, Keys.ESCAPE)
    page.until(lambda: not page.find("#key-dialog").is_displayed())
