"""The page in a real browser, as people use it."""

from __future__ import annotations

import base64
import csv
import io
import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.select import Select

from tests.serve import browser
from tests.serve.browser import DESKTOP, DROP, PASTE, PHONE, Page, running_browser
from tests.serve.conftest import KEYS, png
from tests.serve.server_process import ServerProcess, running_serve

pytestmark = pytest.mark.skipif(
    not (browser.CHROMIUM and browser.DRIVER),
    reason="the page is tested in Chromium: apt-get install chromium chromium-driver",
)


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[browser.webdriver.Chrome]:
    with running_browser(tmp_path_factory.mktemp("profile")) as chromium:
        yield chromium


@pytest.fixture
def page(driver: browser.webdriver.Chrome, trial_server: ServerProcess) -> Page:
    return Page(driver, trial_server.url)


@pytest.fixture
def keyed_page(driver: browser.webdriver.Chrome, keyed_server: ServerProcess) -> Page:
    return Page(driver, keyed_server.url)


MIDDLE = """
const canvas = document.querySelector(arguments[0]);
const place = [canvas.width / 2, canvas.height / 2];
return canvas.getContext("2d").getImageData(...place, 1, 1).data[0];
"""


def write(folder: Path, **scans: bytes) -> list[Path]:
    """Write scans as `<name>.png` and return their paths."""
    paths = [folder / f"{name}.png" for name in scans]
    for path, data in zip(paths, scans.values(), strict=True):
        path.write_bytes(data)
    return paths


def hand_over(page: Page, script: str, **scans: bytes) -> None:
    names = [f"{name}.png" for name in scans]
    texts = [base64.b64encode(data).decode() for data in scans.values()]
    page.driver.execute_script(script, names, texts, page.find("#drop"))


def test_twenty_files_dropped_with_a_corrupt_one(page: Page) -> None:
    page.look()
    page.driver.get_log("performance")
    scans = {f"scan_{i:02}": png(12 * i) for i in range(20)} | {"scan_07": b"not an image"}
    hand_over(page, DROP, **scans)
    page.status_ends("20 scans done: 19 scored, 1 without an answer.")
    assert page.texts(".card .file") == [f"{name}.png" for name in scans]
    cards = page.driver.find_elements("css selector", ".card")
    assert "these bytes are not one" in cards[7].text
    assert cards[7].get_attribute("class") == "card failed"
    assert "adenocarcinoma" in cards[0].text
    bars = [float(text.rstrip(" %")) for text in page.texts(".card:nth-child(4) .bar span")]
    assert len(bars) == 5  # four classes, and any disease with the threshold
    assert sum(bars[:4]) == pytest.approx(100, abs=2)  # whole percents
    meters = page.driver.execute_script(
        "return [...document.querySelectorAll('.card:nth-child(4) meter')].map((m) => m.value)"
    )
    assert [100 * m for m in meters] == pytest.approx(bars, abs=0.51)
    page.driver.execute_script("document.querySelector('.card:last-child').scrollIntoView()")
    page.until(lambda: page.find(".card:last-child .enlarge").is_enabled())
    # The very pixel that the server decoded: the disc's middle, 12 * 19 of 255.
    assert page.driver.execute_script(MIDDLE, ".card:last-child .picture") == 228
    assert page.complaints() == []


def test_nothing_comes_from_elsewhere(page: Page, trial_server: ServerProcess) -> None:
    for path in ("/", "/docs"):
        page.driver.get_log("performance")
        page.driver.get(trial_server.url + path)
        time.sleep(1.5)
        requests = [
            entry["message"].split('"url":"')[1].split('"')[0]
            for entry in page.driver.get_log("performance")
            if '"Network.requestWillBeSent"' in entry["message"]
        ]
        assert requests
        foreign = [u for u in requests if not u.startswith((trial_server.url, "data:", "blob:"))]
        assert foreign == []
        assert page.complaints() == []
    assert "/predict" in page.find("#swagger-ui").text


def test_model_and_notice_are_shown(page: Page) -> None:
    page.look()
    page.until(lambda: page.find("#about").is_displayed())
    assert "Research software, not a medical device." in page.find(".notice").text
    assert "synthetic phantom data" in page.find(".notice").text
    assert page.find("#model-line").text == "Model 9b1e77d0c4aa"
    page.find("#about summary").click()
    assert "large cell carcinoma" in page.find("#about").text
    assert "int8" in page.find("#about").text


def test_external_scores_stand_beside_the_internal_ones(
    driver: browser.webdriver.Chrome, trial_model: Path, tmp_path: Path
) -> None:
    model = shutil.copytree(trial_model, tmp_path / "artifacts" / "training" / "model")
    own = {"n": 50, "roc_auc": 0.981, "roc_auc_ci95": [0.95, 1.0], "model_digest": "9b1e77d0c4aa"}
    own |= {"sensitivity": {"n": 39}, "specificity": {"n": 11}}
    (tmp_path / "scores.json").write_text(json.dumps(own))
    (tmp_path / "MODEL_CARD.md").write_text("# The card\n\nNot for <b>patients</b>.\n")
    elsewhere = tmp_path / "artifacts" / "external_evaluation" / "iq_oth"
    elsewhere.mkdir(parents=True)
    measure = {"value": 0.7123, "ci95": [0.61, 0.79]}
    external = {"n": 300, "roc_auc": measure, "model": {"model_digest": "9b1e77d0c4aa"}}
    (elsewhere / "scores.json").write_text(json.dumps(external))
    with running_serve(model, tmp_path) as server:
        page = Page(driver, server.url)
        page.look()
        page.until(lambda: page.find("#about").is_displayed())
        page.find("#about summary").click()
        heads = page.texts("#scores thead th")
        assert heads == ["Score", "Own test split (50 scans)", "Elsewhere: iq oth (300 scans)"]
        assert page.texts("#scores tbody td") == [
            "0.981 (0.950 to 1.000)", "0.712 (0.610 to 0.790)",
        ]  # fmt: skip
        assert "scored on no scans from elsewhere" not in page.find("#about-limits").text
        page.find("#model-card summary").click()
        assert "Not for <b>patients</b>." in page.find("#model-card-text").text
        assert "may be read as one of these" in page.find("#about-limits").text
        assert "Not for diagnosis" in page.find("#about-list").text
        page.choose(write(tmp_path, a=png(20)))
        page.status_ends("1 scan done")
        # Eleven healthy scans tell no more than one in twelve; the model says 96 %.
        assert page.texts(".bar dt")[-1] == "any disease"
        assert page.texts(".bar span")[-1] == "> 91 %"


def test_explanation_and_doubt(page: Page, tmp_path: Path) -> None:
    page.look()
    page.until(lambda: page.find("#about").is_displayed())
    white = io.BytesIO()
    Image.new("L", (64, 16), 250).save(white, "PNG")
    page.choose(write(tmp_path, scan=png(80), wall=white.getvalue()))
    page.status_ends("2 scans done: 2 scored.")
    warnings = [
        warning.is_displayed()
        for warning in page.driver.find_elements("css selector", ".card .warn")
    ]
    assert warnings == [False, True]
    opacity = "return getComputedStyle(document.querySelector('.heatmap')).opacity"
    assert page.driver.execute_script(opacity) == "0"
    page.find("#explain").click()
    page.until(lambda: float(page.driver.execute_script(opacity)) > 0.5)
    boxes = page.driver.execute_script(
        "return [...document.querySelectorAll('.picture, .heatmap')]"
        ".map((e) => e.getBoundingClientRect()).map((b) => [b.x, b.y, b.width, b.height])"
    )
    assert boxes[0] == boxes[1]  # the map lies on the scan, whatever the scan's shape
    assert boxes[2] == boxes[3]
    assert boxes[0][2] / boxes[0][3] == pytest.approx(1, abs=0.02)
    assert boxes[2][2] / boxes[2][3] == pytest.approx(4, abs=0.02)


def test_an_answer_does_not_contradict_itself(page: Page) -> None:
    page.look()
    page.until(lambda: page.find("#about").is_displayed())
    white = io.BytesIO()
    Image.new("L", (64, 16), 250).save(white, "PNG")
    hand_over(page, DROP, low=b"below", unsure=b"undecided", wall=white.getvalue())
    page.status_ends("3 scans done: 3 scored.", "Answered: 1, undecided: 1, out of domain: 1.")
    low, unsure, wall = page.texts(".card .verdict")
    assert low == "normal"  # 32.4 % would stand above a longer bar of 67.6 %
    assert page.texts(".card .why") == [
        "Probability of disease 68 %, below the model's threshold of 70 %.", "", "",
    ]  # fmt: skip
    assert unsure.startswith("Undecided")
    assert wall.startswith("Out of domain")
    assert [bool(card.find_elements("css selector", ".chosen")) for card in
            page.driver.find_elements("css selector", ".card")] == [True, False, False]  # fmt: skip
    marks = (
        "return [...document.querySelectorAll('.card:first-child .mark')].map((m) => m.style.left)"
    )
    assert page.driver.execute_script(marks) == ["70%"]
    assert "any disease" in page.texts(".card:first-child .bar dt")
    page.find("#about summary").click()
    assert "70.0 % probability of disease" in page.find("#about").text
    assert page.complaints() == []


def test_paste(page: Page) -> None:
    page.look()
    hand_over(page, PASTE, pasted=png(60))
    page.status_ends("1 scan done: 1 scored.")


def test_csv_is_safe_to_open(page: Page, tmp_path: Path) -> None:
    page.look()
    names = ["=HYPERLINK(1)", '+a,"b"', "@SUM", "-1", "plain"]
    hand_over(page, DROP, **dict.fromkeys(names, png(60)), broken=b"no image")
    page.status_ends("6 scans done")
    folder = {"behavior": "allow", "downloadPath": str(tmp_path)}
    page.driver.execute_cdp_cmd("Browser.setDownloadBehavior", folder)
    page.until(lambda: page.find("#csv").is_enabled())  # once the queue has stopped
    page.find("#csv").click()
    page.until(lambda: list(tmp_path.glob("chest-ct-results-*.csv")))
    (file,) = tmp_path.glob("chest-ct-results-*.csv")
    rows = list(csv.DictReader(io.StringIO(file.read_text("utf-8-sig"), newline="")))
    assert [row["file"].removeprefix("'") for row in rows[:-1]] == [f"{n}.png" for n in names]
    assert not [cell for row in rows for cell in row.values() if cell.startswith(tuple("=+-@"))]
    probabilities = [float(rows[0][name]) for name in rows[0] if name.startswith("p_")]
    assert sum(probabilities) == pytest.approx(1)
    assert rows[-1]["label"] == ""
    assert "not one" in rows[-1]["error"]
    assert rows[0]["notice"] == "Research software, not a medical device."
    assert "heatmap" not in rows[0]


def loose(page: Page) -> None:
    """Score five scans of every kind of answer."""
    page.look()
    page.until(lambda: page.find("#about").is_displayed())
    white = io.BytesIO()
    Image.new("L", (64, 16), 250).save(white, "PNG")
    doubtful = {"unsure": b"undecided", "odd": white.getvalue()}
    hand_over(page, DROP, sure=png(20), **doubtful, broken=b"x", low=b"below")
    page.status_ends("5 scans done")


def shown_files(page: Page) -> list[str]:
    """Return the names on the cards that are shown, in order."""
    script = (
        "return [...document.querySelectorAll('.card')].filter((c) => c.checkVisibility())"
        ".map((c) => c.querySelector('.file').innerText.replace('.png', ''))"
    )
    names: list[str] = page.driver.execute_script(script)
    return names


def pick(page: Page, selector: str, value: str) -> None:
    """Choose an option of a list."""
    Select(page.find(selector)).select_by_value(value)


def test_sort_and_filter(page: Page) -> None:
    loose(page)
    options = [option.text for option in Select(page.find("#filter")).options]
    assert options == [
        "All (5)", "adenocarcinoma (1)", "normal (1)", "Undecided (1)", "Out of domain (1)",
        "Without an answer (1)",
    ]  # fmt: skip
    pick(page, "#sort", "highest")
    # Probabilities of disease: 0.96, 0.68, 0.6 and 0.4.
    assert shown_files(page) == ["sure", "low", "unsure", "odd", "broken"]
    pick(page, "#sort", "lowest")
    assert shown_files(page) == ["odd", "unsure", "low", "sure", "broken"]
    pick(page, "#sort", "state")
    assert shown_files(page) == ["broken", "odd", "unsure", "sure", "low"]
    pick(page, "#filter", "out_of_domain")
    assert shown_files(page) == ["odd"]


def test_results_are_not_lost_by_a_slip(page: Page) -> None:
    warns = (
        "const event = new Event('beforeunload', {cancelable: true});"
        "dispatchEvent(event); return event.defaultPrevented"
    )
    page.look()
    assert page.driver.execute_script(warns) is False
    loose(page)
    assert page.driver.execute_script(warns) is True
    page.find("#clear").click()
    assert page.driver.execute_script(warns) is False


def test_print_has_whole_cards_with_date_model_and_warning(page: Page) -> None:
    loose(page)
    page.driver.execute_script("window.print = () => { window.printed = true; }")
    page.find("#print").click()
    page.until(lambda: page.driver.execute_script("return window.printed"))
    page.driver.execute_script("dispatchEvent(new Event('beforeprint'))")
    drawn = "return [...document.querySelectorAll('.picture')].map((c) => c.width > 1)"
    assert page.driver.execute_script(drawn) == [True, True, True, False, True]
    command = page.driver.execute_cdp_cmd
    command("Emulation.setEmulatedMedia", {"media": "print", "features": []})
    try:
        shown = page.find("body").text
        broken = page.driver.execute_script(
            "return getComputedStyle(document.querySelector('.card')).breakInside"
        )
    finally:
        command("Emulation.setEmulatedMedia", {"media": ""})
    assert broken == "avoid"
    assert f"Printed on {time.strftime('%B')}" in shown
    assert str(time.localtime().tm_year) in shown
    assert "Model 9b1e77d0c4aa" in shown
    assert "Research software, not a medical device." in shown
    assert "do not rely on the answer" in shown
    assert "Choose scans" not in shown


def test_on_a_phone_results_come_before_the_drop_zone(page: Page, tmp_path: Path) -> None:
    page.look(PHONE)
    page.until(lambda: page.find("#about").is_displayed())
    assert page.find("#drop").rect["y"] < page.find("#about").rect["y"]
    page.choose(write(tmp_path, a=png(60)))
    page.status_ends("1 scan done")
    assert page.find("#cards").rect["y"] < page.find("#drop").rect["y"]


def test_enlarged_scan_zooms_and_pans_with_the_keyboard(page: Page, tmp_path: Path) -> None:
    page.look()
    page.until(lambda: page.find("#about").is_displayed())
    page.choose(write(tmp_path, a=png(60)))
    page.until(lambda: page.find(".enlarge").is_enabled())
    page.find(".enlarge").send_keys(Keys.ENTER)
    page.until(lambda: page.find("#stage .sheet").is_displayed())
    stage, sheet = page.find("#stage .stage"), page.find("#stage .sheet")
    assert page.driver.switch_to.active_element == stage
    before = sheet.rect
    stage.send_keys("+")
    zoomed = sheet.rect
    assert zoomed["width"] == pytest.approx(1.5 * before["width"], abs=2)
    stage.send_keys(Keys.ARROW_DOWN)
    assert sheet.rect["y"] == pytest.approx(zoomed["y"] - 40, abs=1)
    stage.send_keys("0")
    assert sheet.rect == before
    stage.send_keys(Keys.ESCAPE)
    assert not page.find("#stage").is_displayed()
    assert page.driver.switch_to.active_element.get_attribute("class") == "enlarge"


def test_hostile_names_are_text(page: Page) -> None:
    page.look()
    name = '<img src=x onerror="document.title=1">'
    hand_over(page, DROP, **{name: png(60)})
    page.status_ends("1 scan done")
    assert page.texts(".card .file") == [f"{name}.png"]
    assert page.driver.title == "Chest CT classifier"


def test_cancel_and_try_again(page: Page) -> None:
    page.look()
    hand_over(page, DROP, **{f"slow_{i}": b"sleep 1" for i in range(12)})
    page.until(lambda: page.find("#cancel").is_displayed())
    page.find("#cancel").click()
    page.status_ends("without an answer")
    assert page.texts(".card .verdict")[-1] == "Cancelled."
    page.find("#clear").click()
    assert page.texts(".card") == []
    assert page.driver.switch_to.active_element.get_attribute("id") == "choose"


def test_file_over_the_limit_costs_its_neighbours_nothing(
    driver: browser.webdriver.Chrome, tight_server: ServerProcess, tmp_path: Path
) -> None:
    page = Page(driver, tight_server.url)
    page.look()
    page.until(lambda: page.find("#about").is_displayed())
    page.choose(write(tmp_path, a=png(60), big=bytes(2**20), b=png(90)))
    page.status_ends("3 scans done: 2 scored, 1 without an answer.")
    assert "larger than the 1 MB" in page.texts(".card .verdict")[1]


def test_wrong_key_then_the_right_one(keyed_page: Page, tmp_path: Path) -> None:
    page = keyed_page
    page.look()
    page.until(lambda: page.find("#key-dialog").is_displayed())
    assert page.driver.switch_to.active_element.get_attribute("id") == "key"
    page.find("#key").send_keys("not-a-key-of-this-server\n")
    page.until(lambda: "does not know this key" in page.find("#key-wrong").text)
    assert page.driver.execute_script("return {...sessionStorage}") == {}  # not kept unchecked
    page.find("#key").send_keys(KEYS[0] + "\n")
    page.until(lambda: page.find("#about").is_displayed())
    page.choose(write(tmp_path, a=png(60)))
    page.status_ends("1 scan done: 1 scored.")
    kept = page.driver.execute_script(
        "return [document.cookie, {...localStorage}, {...sessionStorage}, document.body.innerHTML]"
    )
    assert kept[0] == ""
    assert kept[1] == {}
    assert kept[2] == {"chest-ct-key": KEYS[0]}
    assert KEYS[0] not in kept[3]
    page.driver.execute_script("sessionStorage.clear()")


def test_without_a_key_each_scan_says_so(keyed_page: Page, tmp_path: Path) -> None:
    page = keyed_page
    page.look()
    page.until(lambda: page.find("#key-dialog").is_displayed())
    page.find("#key-later").click()
    assert "nothing can be scored" in page.find("#key-missing").text
    page.choose(write(tmp_path, a=png(60)))
    page.until(lambda: page.find("#key-dialog").is_displayed())
    page.find("#key-later").click()
    page.status_ends("1 scan done", "1 without an answer")
    assert "expects an API key" in page.texts(".card .verdict")[0]


@pytest.mark.slow
def test_server_gone_and_back(
    driver: browser.webdriver.Chrome, trial_model: Path, tmp_path: Path
) -> None:
    with running_serve(trial_model, tmp_path) as server:
        page = Page(driver, server.url)
        page.look()
        page.until(lambda: page.find("#about").is_displayed())
    page.choose(write(tmp_path, **{f"s{i}": png(9 * i) for i in range(6)}))
    page.status_ends("6 scans done: 0 scored, 6 without an answer.")
    assert all("cannot be reached" in text for text in page.texts(".card .verdict"))
    with running_serve(trial_model, tmp_path, port=server.port):
        page.find("#retry").click()
        page.status_ends("6 scans done: 6 scored.")
    page.complaints()


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_without_javascript(page: Page, size: tuple[int, int], tmp_path: Path) -> None:
    page.look(size, scripts=False)
    scans = write(tmp_path, good=png(60), bad=b"no image")
    page.choose(scans)
    page.find("#form button[type=submit]").click()
    page.until(lambda: "Results for 2 scans" in page.find("h1").text)
    body = page.find("body").text
    assert "adenocarcinoma" in body
    assert "these bytes are not one" in body
    assert "Research software, not a medical device." in body
    assert [len(row.find_elements("css selector", "th, td")) for row in
            page.driver.find_elements("css selector", "table.results tr")] == [7, 7, 7]  # fmt: skip
    page.find("a.button").click()
    page.until(lambda: page.driver.find_elements("css selector", "#choose"))
