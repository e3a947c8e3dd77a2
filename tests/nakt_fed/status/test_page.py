"""The status page: what it answers and refuses, and how it looks to a person in a real browser."""

import asyncio
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from nakt_fed.errors import RunError
from nakt_fed.status.page.app import status_app
from nakt_fed.status.page.guard import asks_loopback
from nakt_fed.status.page.serve import serve
from nakt_fed.status.reader import RunReader
from tests.contrast import hard_to_read
from tests.nakt_fed.status.story import Story, everything

ROOT = Path(__file__).parents[3]
NAKT = [sys.executable, "-c", "from nakt_fed.cli import main; main()"]


def asked(
    folder: Path, path: str = "/", method: str = "GET", host: str = "127.0.0.1:8000", local: bool = True
) -> httpx.Response:
    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(app=status_app(RunReader(folder), local=local))  # type: ignore[arg-type]
        async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
            return await client.request(method, path, headers={"host": host})

    return asyncio.run(ask())


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return everything(tmp_path_factory.mktemp("runs") / "breast-1").folder


# what is answered


def test_the_page_needs_nothing_else(run: Path) -> None:
    page = asked(run)
    assert page.status_code == 200
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert not re.findall(r"""(?:src|href)=["'](?!data:,)|url\(|@import|https?://""", page.text)


def test_the_json_holds_no_path(run: Path) -> None:
    told = asked(run, "/status.json")
    assert told.json()["version"] == 1
    assert [site["name"] for site in told.json()["sites"]][:2] == ["north", "harbour"]
    assert str(run.parent) not in told.text
    assert str(run.parent) not in asked(run).text


def test_only_the_report_s_name_is_told(tmp_path: Path) -> None:
    story = Story(tmp_path / "run", "ann")
    story.finish()
    told = asked(story.folder, "/status.json")
    assert told.json()["report"] == "report.html"
    assert str(tmp_path) not in told.text


@pytest.mark.parametrize("path", ["/", "/status.json", "/nowhere"])
def test_headers_are_strict_on_every_answer(run: Path, path: str) -> None:
    headers = asked(run, path).headers
    policy = dict(part.split(" ", 1) for part in headers["content-security-policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert "unsafe" not in headers["content-security-policy"]
    assert policy["script-src"].startswith("'sha256-")
    assert policy["frame-ancestors"] == "'none'"
    assert headers["cache-control"] == "no-store"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert "access-control-allow-origin" not in headers


@pytest.mark.parametrize("path", ["/", "/status.json", "/nowhere"])
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD", "TRACE", "QUIT"])
def test_only_get_is_answered(run: Path, method: str, path: str) -> None:
    answer = asked(run, path, method)
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET")


@pytest.mark.parametrize("path", ["/study.toml", "/page.js", "/../study.toml", "/%2e%2e/study.toml", "/events.jsonl"])
def test_nothing_else_is_served(run: Path, path: str) -> None:
    assert asked(run, path).status_code == 404


def test_a_run_folder_that_is_gone_is_said(tmp_path: Path) -> None:
    reader = RunReader(Story(tmp_path / "run", "ann").folder)
    app = status_app(reader, local=False)
    shutil.rmtree(tmp_path / "run")

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(app=app)  # type: ignore[arg-type]
        async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
            return await client.get("/status.json")

    answer = asyncio.run(ask())
    assert (answer.status_code, answer.json()) == (503, {"error": "the run folder can no longer be read"})


# who asks

OWN = ["127.0.0.1", "127.0.0.1:80", "localhost:8123", "LOCALHOST", "[::1]:80", "[::1]", "127.9.9.9:1"]
FOREIGN = [
    "evil.example", "evil.example:80", "127.0.0.1.evil.example", "localhost.evil.example:80", "0.0.0.0:80", "10.0.0.1",
    "localhost@evil.example", "localhost:80@evil.example", "127.0.0.1:80:80", "[::1]:80:80", "", "[::2]:80", "2130706433",
]  # fmt: skip


@pytest.mark.parametrize("host", OWN)
def test_this_machine_is_answered(run: Path, host: str) -> None:
    assert asked(run, host=host).status_code == 200


@pytest.mark.parametrize("host", FOREIGN)
def test_another_name_is_refused_on_loopback_only(run: Path, host: str) -> None:
    assert asked(run, "/status.json", host=host).status_code == 421
    assert asked(run, "/status.json", host=host, local=False).status_code == 200


def test_one_host_header_is_demanded() -> None:
    own = (b"host", b"localhost")
    assert asks_loopback([own])
    assert not asks_loopback([])
    assert not asks_loopback([own, (b"host", b"evil.example")])


def test_an_address_that_is_taken_is_said(run: Path) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        pytest.raises(RunError, match="give another --host or --port"),
    ):
        serve(RunReader(run), "127.0.0.1", taken.getsockname()[1], print)
    with pytest.raises(RunError, match="cannot be served at no such host"):
        serve(RunReader(run), "no such host", 0, print)


# the real server


@dataclass
class Served:
    url: str
    said: str
    process: "subprocess.Popen[str]"


@contextmanager
def served(run: Path, *options: str) -> Iterator[Served]:
    """`nakt status --web` in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    command = [*NAKT, "status", str(run), "--web", *options]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment,
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),  # ignored where the tests run in the background
    )  # fmt: skip
    assert process.stdout is not None
    said, url = "", None
    try:
        while url is None and (line := process.stdout.readline()):
            said += line
            url = re.search(r"http://\S+", line)
        assert url, said
        yield Served(url[0], said, process)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def until_it_answers(url: str) -> httpx.Response:
    end = time.monotonic() + 20
    while True:
        try:
            return httpx.get(url, timeout=5)
        except httpx.TransportError:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)


def test_the_command_serves_until_ctrl_c(run: Path) -> None:
    with served(run) as page:
        assert page.url.startswith("http://127.0.0.1:")
        assert "warning" not in page.said
        answer = until_it_answers(page.url)
        assert answer.status_code == 200
        assert "server" not in answer.headers
        assert httpx.get(page.url, headers={"host": "evil.example"}).status_code == 421
        assert httpx.head(page.url + "status.json").status_code == 405
        page.process.send_signal(signal.SIGINT)
        assert page.process.wait(10) == 0
        assert page.process.stdout is not None
        assert page.process.stdout.read() == ""


def test_an_open_address_is_warned_of(run: Path) -> None:
    with served(run, "--host", "0.0.0.0") as page:
        assert page.said.startswith("warning: whoever reaches this address can read the page: it has no login")


# in a browser


PLACES = ("body", ".note", ".small", ".good", ".warn", ".bad", "thead th", "#stages .todo", "footer")


@contextmanager
def opened(browser: Any, url: str, **options: Any) -> Iterator[tuple[Any, list[str], list[str]]]:
    """The page with its table, what it requested and what it said on the console."""
    context = browser.new_context(**options)
    page, requests, said = context.new_page(), [], []
    page.on("request", lambda request: requests.append(request.url))
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(url)
    page.wait_for_selector("#sites tbody tr")
    yield page, requests, said
    context.close()


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_in_chromium(browser: Any, run: Path, scheme: str, width: int) -> None:
    """Only the page and its JSON are requested, nothing said on the console; it fits and is readable."""
    options = {"viewport": {"width": width, "height": 900}, "color_scheme": scheme}
    with served(run) as server, opened(browser, server.url, **options) as (page, requests, said):
        text = page.inner_text("body")
        for words in (
            "Sites answer the pictures",
            "waiting for approval",
            "nakt site approve SITE_FILE breast-1",
            "83 %",
        ):
            assert words in text
        assert page.get_by_role("progressbar", name="north: answered").evaluate("bar => bar.value / bar.max") == 5 / 6
        assert {url.removeprefix(server.url) for url in requests if not url.startswith("data:")} == {"", "status.json"}
        assert said == []
        assert page.evaluate("document.documentElement.scrollWidth") == width
        assert hard_to_read(page, *PLACES) == {}


@pytest.mark.slow
def test_it_follows_the_run_and_says_when_it_cannot(browser: Any, tmp_path: Path) -> None:
    story = Story(tmp_path / "run", "ann")
    story.presence("ann", "connected")
    with served(story.folder) as server, opened(browser, server.url) as (page, _, said):
        assert "connected" in page.inner_text("#sites")
        story.presence("ann", "away", "unreachable")
        page.get_by_text("away since").wait_for(timeout=10_000)
        story.stage("student")
        story.epoch("student", 7, 20)
        page.get_by_text("Student: epoch 7 of 20").wait_for(timeout=10_000)
        story.finish()
        page.get_by_text("Finished. The report is ready.").wait_for(timeout=10_000)
        assert page.title().startswith("finished: ")
        assert said == []
        server.process.kill()
        page.get_by_text("No news:").wait_for(timeout=10_000)


@pytest.mark.slow
def test_words_from_sites_never_become_markup(browser: Any, tmp_path: Path) -> None:
    """A hostile site chooses its reason codes; a study's folder may be called anything."""
    evil = "<img src=x onerror=alert(1)><script>alert(2)<b>"
    story = Story(tmp_path / "<b>run&amp;", "ann", "bob")
    story.presence("ann", "waiting", evil)
    story.fault("bob", "failed", evil)
    story.events.emit("warning", message=evil)
    with served(story.folder) as server, opened(browser, server.url) as (page, requests, said):
        assert page.inner_text("main").count(evil) == 3
        assert "Run <b>run&amp;" in page.inner_text("header")
        assert page.evaluate("document.querySelectorAll('img, b, main script').length") == 0
        assert all("/x" not in url for url in requests)
        assert said == []
