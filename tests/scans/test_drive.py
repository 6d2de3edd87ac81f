"""gdown itself, against a stand-in of Google Drive behind its network edge."""

from __future__ import annotations

from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
import requests

from scans.drive import download_drive_file, drive_file_id
from scans.errors import SourceError
from scans.limits import Limits
from tests.scans.conftest import WebServer, reply

FILE_ID = "1z0mreUtRmR-P-magILsDR3T7M6IkGXtY"
BODY = b"PK" + bytes(range(256)) * 900

# The elements that Google's pages had in 2025, as gdown reads them.
WARNING_PAGE = f"""<html><body><p class="uc-warning-caption">Google Drive can't scan this file for
viruses.</p>
<form id="download-form" action="https://drive.usercontent.google.com/download" method="get">\
<input type="submit" id="uc-download-link" value="Download anyway"/>\
<input type="hidden" name="id" value="{FILE_ID}"><input type="hidden" name="confirm" value="t">\
</form></body></html>"""
QUOTA_PAGE = """<html><head><title>Google Drive - Quota exceeded</title></head><body>
<p class="uc-error-caption">Sorry, you can't view or download this file at this time.</p>
<p class="uc-error-subcaption">Too many users have viewed or downloaded this file recently. Please \
try accessing the file again later.</p></body></html>"""
LOGIN_PAGE = "<html><head><title>Google Drive: Sign-in</title></head><body><form></form></body>"


@pytest.fixture
def drive(web_server: WebServer, monkeypatch: pytest.MonkeyPatch) -> WebServer:
    """Send what goes to Google's hosts to the local server; all else of requests is real."""

    class ToLocalServer(requests.adapters.HTTPAdapter):
        def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> Any:
            url = str(request.url)
            host, path = url.removeprefix("https://").split("/", 1)
            assert host in ("drive.google.com", "drive.usercontent.google.com")
            local = request.copy()
            local.url = f"{web_server.url}/{host}/{path}"
            response = super().send(local, *args, **kwargs)
            response.url, response.request = url, request
            return response

    monkeypatch.setattr(requests.sessions, "HTTPAdapter", ToLocalServer)
    monkeypatch.setattr("random.uniform", lambda low, high: 0.0)  # gdown's waits between attempts
    return web_server


def send_file(handler: BaseHTTPRequestHandler, body: bytes = BODY) -> None:
    reply(
        handler, 200, body, Content_Length=len(BODY), Content_Type="application/octet-stream",
        Content_Disposition='attachment; filename="Chest-CT-Scan-data.zip"',
    )  # fmt: skip


def send_page(handler: BaseHTTPRequestHandler, page: str, status: int = 200) -> None:
    reply(handler, status, page.encode(), Content_Type="text/html; charset=utf-8")


@pytest.mark.parametrize(
    "source",
    [
        FILE_ID,
        f"https://drive.google.com/file/d/{FILE_ID}/view?usp=sharing",
        f"https://drive.google.com/open?id={FILE_ID}",
        f"https://drive.google.com/uc?id={FILE_ID}&export=download",
    ],
)
def test_every_form_of_link_names_the_file(source: str) -> None:
    assert drive_file_id(source) == FILE_ID


def test_a_folder_link_is_said_to_be_one() -> None:
    with pytest.raises(SourceError, match=r"Received a folder's link: .* Zip the folder"):
        drive_file_id("https://drive.google.com/drive/folders/1z0mreUtRmR-P-magILsDR3T7M6IkGXtY")
    with pytest.raises(SourceError, match="Expected a Google Drive link such as"):
        drive_file_id("https://drive.google.com/my-drive")


def test_a_large_file_behind_the_virus_warning(drive: WebServer, tmp_path: Path) -> None:
    drive.answer = lambda handler: (
        send_file(handler) if "confirm=t" in handler.path else send_page(handler, WARNING_PAGE)
    )
    download_drive_file(FILE_ID, tmp_path / "z.zip", Limits())
    assert (tmp_path / "z.zip").read_bytes() == BODY
    assert [path.name for path in tmp_path.iterdir()] == ["z.zip"]


def refused(tmp_path: Path, limits: Limits | None = None) -> str:
    with pytest.raises(SourceError) as caught:
        download_drive_file(FILE_ID, tmp_path / "z.zip", limits or Limits())
    assert not (tmp_path / "z.zip").exists()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_quota_page(drive: WebServer, tmp_path: Path) -> None:
    drive.answer = lambda handler: send_page(handler, QUOTA_PAGE)
    message = refused(tmp_path)
    assert "quota is used up" in message
    assert "give the local zip" in message


@pytest.mark.parametrize("status", [200, 404])
def test_the_permission_page(drive: WebServer, tmp_path: Path, status: int) -> None:
    drive.answer = lambda handler: send_page(handler, LOGIN_PAGE, status)
    message = refused(tmp_path)
    assert "'Anyone with the link'" in message
    assert "give the local zip" in message


def test_a_connection_that_always_breaks(drive: WebServer, tmp_path: Path) -> None:
    drive.answer = lambda handler: send_file(handler, BODY[:5000])
    assert "could not be downloaded" in refused(tmp_path)
    assert len(drive.requests) > 1


def test_too_large(drive: WebServer, tmp_path: Path) -> None:
    drive.answer = send_file
    assert "max_total_bytes=1,000" in refused(tmp_path, Limits(max_total_bytes=1000))
