"""A folder or a zip of a CT on the page: an answer per series, and its slices to look through."""

from __future__ import annotations

import base64
import csv
import io
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.select import Select

from tests.serve import browser
from tests.serve.browser import DESKTOP, Page, running_browser
from tests.serve.gate import Gate
from tests.serve.server_process import ServerProcess
from tests.serve.trial_model import PIXEL_MM, dicom

pytestmark = pytest.mark.skipif(
    not (browser.CHROMIUM and browser.DRIVER),
    reason="the page is tested in Chromium: apt-get install chromium chromium-driver",
)

BRIGHTNESS = (90, 30, 140, 200)  # of slices at 0, 10, … mm: the darkest speaks most for disease
SIDE_PX = 48
MIDDLE = """
const canvas = document.querySelector(".series .grey");
const place = [canvas.width / 2, canvas.height / 2];
return canvas.getContext("2d").getImageData(...place, 1, 1).data[0];
"""


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[browser.webdriver.Chrome]:
    with running_browser(tmp_path_factory.mktemp("profile")) as chromium:
        yield chromium


@pytest.fixture
def page(driver: browser.webdriver.Chrome, trial_server: ServerProcess) -> Page:
    opened = Page(driver, trial_server.url)
    opened.look(DESKTOP)
    opened.until(lambda: opened.find("#about").is_displayed())
    return opened


def flat(brightness: int) -> bytes:
    """Return an even grey PNG."""
    file = io.BytesIO()
    Image.new("L", (SIDE_PX, SIDE_PX), brightness).save(file, "PNG")
    return file.getvalue()


def p_disease(brightness: int) -> float:
    """Return the trial model's probability of disease for a slice of this brightness."""
    return 1.3 / (1.3 + 2 * brightness / 255)


def study(folder: Path, **series: dict[float, int]) -> Path:
    """Write a zip with a folder of slices (position: brightness) for each series, and clutter."""
    path = folder / "study.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, slices in series.items():
            for number, (position, brightness) in enumerate(slices.items()):
                scan = dicom(f"1.2.{name}", position, flat(brightness))
                archive.writestr(f"CT/{name}/{number:03}.dcm", scan)
        archive.writestr("CT/inner.zip", b"PK")
        archive.writestr("CT/DICOMDIR", bytes(200))
        archive.writestr("CT/notes.txt", b"not a slice")
    return path


def one_series(page: Page, folder: Path) -> None:
    """Score a series of four slices."""
    slices = dict(zip((0.0, 10.0, 20.0, 30.0), BRIGHTNESS, strict=True))
    page.choose([study(folder, A=slices)])
    page.status_ends("5 scans done: 4 scored, 1 without an answer.", "1 series.")


def test_a_zip_of_two_series_gets_an_answer_for_each(page: Page, tmp_path: Path) -> None:
    first = dict(zip((0.0, 10.0, 20.0, 30.0), BRIGHTNESS, strict=True))
    page.choose([study(tmp_path, A=first, B={5.0: 255, 15.0: 255})])
    page.status_ends("7 scans done: 6 scored, 1 without an answer.", "2 series.")
    assert page.texts(".series .file") == ["A", "B"]
    assert page.texts(".series .verdict") == ["adenocarcinoma", "normal"]
    p = p_disease(30)
    assert page.texts(".series .why")[0] == (
        f"Probability of disease {100 * p:.0f} %, at or above the series' threshold of 60 %."
    )
    value, mark = page.driver.execute_script(
        "const c = document.querySelector('.series');"
        "return [c.querySelector('meter').value, c.querySelector('.mark').style.left]"
    )
    assert value == pytest.approx(p)
    assert mark == "60%"
    # From the head down: 30, 20, 10 and 0 mm; the key slice at 10 mm is shown first.
    shown = page.texts(".series .caption")[0]
    assert shown == f"Slice 3 of 4 · z 10.0 mm · disease {100 * p:.0f} % · key slice"
    assert page.texts(".series .counts")[0].startswith("Slices\n4: 4 scored")
    page.find("#left-out summary").click()
    left_out = page.texts("#left-out-list li")
    assert len(left_out) == 3
    assert any("inner.zip A zip within a zip is not opened" in text for text in left_out)
    assert any("DICOMDIR The index of a medium" in text for text in left_out)
    assert any("notes.txt Expected an image file" in text for text in left_out)
    assert page.complaints() == []


def chest(tmp_path: Path) -> Path:
    """Write a folder with one series, 10 mm from slice to slice."""
    folder = tmp_path / "chest"
    folder.mkdir()
    for number, brightness in enumerate(BRIGHTNESS):
        scan = dicom("1.2.3", 10.0 * number, flat(brightness))
        (folder / f"IM{number}").write_bytes(scan)
    return folder


def test_the_folder_dialogue_takes_a_series(page: Page, tmp_path: Path) -> None:
    folder = chest(tmp_path)
    page.find("#folder").send_keys(str(folder))
    page.status_ends("4 scans done: 4 scored. 1 series.")
    assert page.texts(".series .file") == ["chest"]


def test_numbers_of_slices_count_those_that_failed(page: Page, tmp_path: Path) -> None:
    folder = chest(tmp_path)
    (folder / "IM9").write_bytes(dicom("1.2.3", 15.0, b"broken"))
    page.find("#folder").send_keys(str(folder))
    page.status_ends("5 scans done: 4 scored, 1 without an answer.", "1 series.")
    strip = page.find(".series .track-z")
    captions = []
    for key in (Keys.HOME, Keys.ARROW_RIGHT, Keys.ARROW_RIGHT, Keys.ARROW_RIGHT):
        strip.send_keys(key)
        captions.append(page.texts(".series .caption")[0].partition(" · ")[0])
    assert captions == [f"Slice {number} of 5" for number in (1, 2, 4, 5)]


def test_moving_through_slices(page: Page, tmp_path: Path) -> None:
    one_series(page, tmp_path)
    strip, stage = page.find(".series .track-z"), page.find(".series .stage")

    def now() -> str:
        return str(strip.get_attribute("aria-valuenow"))

    assert now() == "3"
    strip.send_keys(Keys.ARROW_LEFT)
    assert now() == "2"
    assert "z 20.0 mm" in str(strip.get_attribute("aria-valuetext"))
    strip.send_keys(Keys.END)
    assert now() == "4"
    strip.send_keys("k")
    assert now() == "3"
    stage.send_keys(Keys.ARROW_UP)
    assert now() == "2"
    page.driver.execute_script(
        "arguments[0].dispatchEvent(new WheelEvent('wheel', {deltaY: 60, cancelable: true}))", stage
    )
    assert now() == "3"
    width = strip.size["width"]
    chain = ActionChains(page.driver).move_to_element_with_offset(strip, -width // 2 + 2, 0)
    chain.click_and_hold().move_by_offset(width // 3, 0).release().perform()
    assert now() == "2"
    middle = ActionChains(page.driver).move_to_element(stage).click_and_hold()
    middle.move_by_offset(0, 25).release().perform()
    assert now() == "4"


def test_windows_show_the_pixels_that_the_server_decoded(page: Page, tmp_path: Path) -> None:
    one_series(page, tmp_path)
    hounsfield = 8 * 30 - 1000  # the trial model's, in the key slice's disc
    page.until(lambda: page.find(".series .sheet").is_displayed())
    for name, centre, width in (("lung", -600, 1500), ("soft", 40, 400), ("bone", 400, 1800)):
        Select(page.find(".series .window")).select_by_value(name)
        level = min(255.0, max(0.0, 255 * (hounsfield - (centre - width / 2)) / width))
        assert page.driver.execute_script(MIDDLE) == pytest.approx(level, abs=1)
    Select(page.find(".series .window")).select_by_value("lung")
    ActionChains(page.driver).move_to_element(page.find(".series .stage")).perform()
    assert page.texts(".series .value") == [f"{hounsfield} HU"]


def test_distance_in_mm(page: Page, tmp_path: Path) -> None:
    one_series(page, tmp_path)
    page.until(lambda: page.find(".series .sheet").is_displayed())
    page.find(".series .measure").click()
    sheet = page.find(".series .sheet").rect
    chain = ActionChains(page.driver).move_to_element(page.find(".series .stage"))
    chain.click_and_hold().move_by_offset(0, 60).release().perform()
    length = float(page.texts(".series .length")[0].removesuffix(" mm"))
    pixels = 60 * SIDE_PX / sheet["height"]
    assert length == pytest.approx(pixels * PIXEL_MM[0], abs=0.1)
    # With the keyboard: from the middle, ten columns to the right.
    stage = page.find(".series .stage")
    page.find(".series .measure").click()
    page.find(".series .measure").click()
    stage.send_keys(Keys.ENTER, Keys.SHIFT, Keys.ARROW_RIGHT, Keys.NULL, Keys.ENTER)
    assert page.texts(".series .length") == [f"{10 * PIXEL_MM[1]:.1f} mm"]


def test_heat_map_lies_over_the_slice_with_opacity_and_legend(page: Page, tmp_path: Path) -> None:
    one_series(page, tmp_path)
    page.until(lambda: page.find(".series .sheet").is_displayed())
    page.find(".series .heat").click()
    page.until(lambda: page.find(".series .glow").is_displayed())
    assert page.find(".series .heat").get_attribute("aria-pressed") == "true"
    assert page.find(".series .glow").rect == page.find(".series .grey").rect
    assert "Speaks for adenocarcinoma" in page.find(".series .legend-heat").text
    page.find(".series .opacity").send_keys(Keys.HOME)
    assert page.find(".series .glow").value_of_css_property("opacity") == "0"
    page.find(".series .opacity").send_keys(Keys.END)
    assert page.find(".series .glow").value_of_css_property("opacity") == "1"
    page.find(".series .heat").click()
    assert not page.find(".series .glow").is_displayed()


def test_csv_has_the_answer_of_the_whole_series(page: Page, tmp_path: Path) -> None:
    one_series(page, tmp_path)
    folder = {"behavior": "allow", "downloadPath": str(tmp_path)}
    page.driver.execute_cdp_cmd("Browser.setDownloadBehavior", folder)
    page.until(lambda: page.find("#csv").is_enabled())  # once the queue has stopped
    page.find("#csv").click()
    page.until(lambda: list(tmp_path.glob("chest-ct-results-*.csv")))
    (file,) = tmp_path.glob("chest-ct-results-*.csv")
    rows = list(csv.DictReader(io.StringIO(file.read_text("utf-8-sig"), newline="")))
    slices = [row for row in rows if row["series"]]
    assert [row["file"] for row in slices] == [f"study.zip/CT/A/{i:03}.dcm" for i in range(4)]
    assert {row["series_label"] for row in slices} == {"adenocarcinoma"}
    assert float(slices[0]["series_probability"]) == pytest.approx(p_disease(30))
    assert [row["key_slice"] for row in slices] == ["false", "true", "false", "false"]


def test_two_series_side_by_side_move_together(page: Page, tmp_path: Path) -> None:
    first = dict(zip((0.0, 10.0, 20.0, 30.0), BRIGHTNESS, strict=True))
    second = {0.0: 25, 6.0: 40, 12.0: 30, 18.0: 20, 24.0: 21, 30.0: 22}
    page.choose([study(tmp_path, A=first, B=second)])
    page.status_ends("scans done", "2 series.")
    page.find(".series .compare").click()
    page.until(lambda: len(page.texts("#stage .caption")) == 2)
    left = page.find("#stage .track-z")
    assert page.driver.switch_to.active_element == left
    left.send_keys(Keys.HOME)
    captions = page.texts("#stage .caption")
    assert ["z 30.0 mm" in text for text in captions] == [True, True]
    left.send_keys(Keys.ARROW_RIGHT)  # 20 mm: 18 mm is nearest
    assert "z 18.0 mm" in page.texts("#stage .caption")[1]
    page.find("#together").click()
    left.send_keys(Keys.END)
    assert "z 18.0 mm" in page.texts("#stage .caption")[1]
    Select(page.find("#beside")).select_by_value("")
    assert len(page.texts("#stage .caption")) == 1
    page.find("#stage-close").click()


def test_progress_and_a_series_that_was_cancelled(page: Page, tmp_path: Path, gate: Gate) -> None:
    folder = tmp_path / "slow"
    folder.mkdir()
    for number in range(18):  # the second call of two waits
        scan = flat(60) if number < 16 else gate.scan
        (folder / f"{number:02}.dcm").write_bytes(dicom("1.2.9", 10.0 * number, scan))
    page.find("#folder").send_keys(str(folder))
    page.until(lambda: page.texts(".group .verdict") == ["Being scored: 16 of 18 files"])
    assert page.texts(".series:not(.group) .verdict") == ["16 slices so far"]
    page.find("#cancel").click()
    page.status_ends("18 scans done: 16 scored, 2 without an answer.")
    assert page.texts(".series .verdict") == [
        "No answer yet: 2 files of its folder were not scored. Try the failed ones again."
    ]
    gate.open()
    page.find("#retry").click()
    page.status_ends("18 scans done: 18 scored.")
    assert page.texts(".series .verdict") == ["adenocarcinoma"]


def test_report_is_one_page_with_answer_picture_model_and_warning(
    page: Page, tmp_path: Path
) -> None:
    one_series(page, tmp_path)
    page.driver.execute_script("window.print = () => { window.printed = true; }")
    page.find(".series .report").click()
    page.until(lambda: page.driver.execute_script("return window.printed"))
    pdf = page.driver.execute_cdp_cmd("Page.printToPDF", {"preferCSSPageSize": True})["data"]
    assert len(re.findall(rb"/Type\s*/Page\b", base64.b64decode(pdf))) == 1
    text = page.driver.execute_script("return document.querySelector('#report').textContent")
    for expected in (
        "adenocarcinoma", "Research software, not a medical device.", "synthetic phantom data",
        "9b1e77d0c4aa", "1.2.A", "z 10.0 mm", "4: 4 scored", "60.0 % probability of disease",
    ):  # fmt: skip
        assert expected in text
    drawn = page.driver.execute_script(
        "return [...document.querySelectorAll('#report canvas')].map((c) => c.width)"
    )
    assert drawn == [SIDE_PX, SIDE_PX]


def test_damaged_and_hostile_zips_are_one_sentence(page: Page, tmp_path: Path) -> None:
    whole = study(tmp_path, A={0.0: 90, 10.0: 30}).read_bytes()
    cut, bomb = tmp_path / "cut.zip", tmp_path / "bomb.zip"
    cut.write_bytes(whole[: len(whole) // 2])
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.dcm", bytes(4_000_000))
    # The directory says 10 bytes; what is packed is 4 MB.
    text = bytearray(bomb.read_bytes())
    at = text.rfind(b"PK\x01\x02")
    text[at + 24 : at + 28] = (10).to_bytes(4, "little")
    bomb.write_bytes(text)
    page.choose([cut, bomb])
    page.until(lambda: "2 files without" in page.find("#left-out-title").text)
    page.find("#left-out summary").click()
    lines = page.texts("#left-out-list li")
    assert "cut.zip This zip is damaged, cut short or too large" in lines[0]
    assert "it is not as long as the zip says" in lines[1]
