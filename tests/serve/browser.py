"""A headless Chromium for tests of the page, driven through Selenium."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from selenium import webdriver
from selenium.common.exceptions import (
    NoSuchElementException,
    StaleElementReferenceException,
)
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait

# Debian's names first. Both paths are given, so that Selenium does not look for downloads.
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
DRIVER = shutil.which("chromedriver")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
)
WAIT_S = 60
TRIES = 5  # of loading a page
DESKTOP, PHONE = (1280, 900), (390, 844)

# Hands files to the page as a drop does; a test cannot drag from a file manager.
DROP = """
const [names, texts, zone] = arguments;
const transfer = new DataTransfer();
names.forEach((name, i) => {
  const bytes = Uint8Array.from(atob(texts[i]), (c) => c.charCodeAt(0));
  transfer.items.add(new File([bytes], name));
});
const options = { bubbles: true, cancelable: true };
zone.dispatchEvent(new DragEvent("dragover", { ...options, dataTransfer: transfer }));
zone.dispatchEvent(new DragEvent("drop", { ...options, dataTransfer: transfer }));
"""
PASTE = (
    DROP.split("const options")[0]
    + """
zone.dispatchEvent(new ClipboardEvent("paste", { bubbles: true, clipboardData: transfer }));
"""
)


@contextmanager
def running_browser(profile: Path) -> Iterator[webdriver.Chrome]:
    """Run Chromium with a fresh profile until the block ends."""
    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    downloads = {"download.default_directory": str(profile), "download.prompt_for_download": False}
    options.add_experimental_option("prefs", downloads)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(str(DRIVER)))
    try:
        yield driver
    finally:
        driver.quit()


class Page:
    """What a person can do and see on the page."""

    def __init__(self, driver: webdriver.Chrome, url: str) -> None:
        self.driver = driver
        self.url = url
        self._complaints: list[str] = []  # of the page's last loading

    def look(
        self, size: tuple[int, int] = DESKTOP, scheme: str = "light", scripts: bool = True
    ) -> None:
        """Open the page anew in a window size, a colour scheme, with or without JavaScript."""
        command = self.driver.execute_cdp_cmd
        width, height = size
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        command("Emulation.setDeviceMetricsOverride", metrics)
        command("Emulation.setTouchEmulationEnabled", {"enabled": width < 600})
        feature = {"name": "prefers-color-scheme", "value": scheme}
        command("Emulation.setEmulatedMedia", {"features": [feature]})
        command("Emulation.setScriptExecutionDisabled", {"value": not scripts})
        for _ in range(TRIES):
            self._complaints = []
            self.driver.get(self.url)
            self._complaints = self.complaints()
            # Another test starts or stops a container: Chromium then drops what it was fetching.
            if not any("ERR_NETWORK_CHANGED" in text for text in self._complaints):
                break
        if scripts:
            self.until(
                lambda: self.driver.execute_script("return document.readyState") == "complete"
            )
            self.until(lambda: "js" in (self.find("html").get_attribute("class") or ""))

    def find(self, selector: str) -> Any:
        """Return the first element for a CSS selector."""
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def texts(self, selector: str) -> list[str]:
        """Return the text of each element for a CSS selector, in order."""
        script = "return [...document.querySelectorAll(arguments[0])].map((e) => e.innerText)"
        texts: list[str] = self.driver.execute_script(script, selector)
        return texts

    def until(self, condition: Any) -> Any:
        """Wait until a condition holds."""
        # While one page replaces another, elements come and go.
        passing = (NoSuchElementException, StaleElementReferenceException)
        return WebDriverWait(self.driver, WAIT_S, 0.1, passing).until(lambda _: condition())

    def status_ends(self, *parts: str) -> None:
        """Wait until the status line says all of `parts`."""
        self.until(lambda: all(part in self.find("#status").text for part in parts))

    def choose(self, files: list[Path]) -> None:
        """Pick files as the file dialogue does."""
        self.find("#choose").send_keys("\n".join(map(str, files)))

    def complaints(self) -> list[str]:
        """Return what the browser's console complained about since the last call."""
        kept, self._complaints = self._complaints, []
        messages = kept + [str(entry["message"]) for entry in self.driver.get_log("browser")]
        # A test leaves a page with results without having touched it.
        return [text for text in messages if "'beforeunload' confirmation panel" not in text]
