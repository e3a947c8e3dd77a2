"""The status page as an ASGI app: the page, and the JSON that it asks for every two seconds. Nothing else is served."""

import base64
import hashlib
from pathlib import Path
from threading import Lock
from typing import Any

import jinja2
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from nakt_fed.errors import NaktError
from nakt_fed.status.document import document
from nakt_fed.status.page.guard import Guard
from nakt_fed.status.reader import RunReader
from nakt_fed.status.values import RunStatus

FOLDER = Path(__file__).parent
REFRESH_SECONDS = 2


def status_app(reader: RunReader, *, local: bool) -> Guard:
    """GET / and GET /status.json. `local`: only requests that call this machine by a loopback name are answered."""
    style, script = ((FOLDER / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    page, lock = _page(reader, style, script), Lock()

    def show(request: Request) -> Response:
        return HTMLResponse(page)

    def tell(request: Request) -> Response:
        try:
            with lock:
                return JSONResponse(for_page(reader.read()))
        except (NaktError, OSError):
            return JSONResponse({"error": "the run folder can no longer be read"}, 503)

    app = Starlette(routes=[Route("/", show, methods=["GET"]), Route("/status.json", tell, methods=["GET"])])
    return Guard(app, content_policy(style, script), local=local)


def for_page(status: RunStatus) -> dict[str, Any]:
    """What the page is told: no path of this machine."""
    told = document(status)
    del told["folder"]
    return told | {"report": Path(status.report).name}


def content_policy(style: str, script: str) -> str:
    """Only this style and this script, known by their hashes, and only this server is asked."""
    allowed = f"style-src '{_hash(style)}'; script-src '{_hash(script)}'; connect-src 'self'; img-src data:"
    return f"default-src 'none'; {allowed}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _page(reader: RunReader, style: str, script: str) -> str:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    study = reader.study.study.name
    names = {"study": study, "run": reader.folder.name, "refresh": REFRESH_SECONDS}
    return environment.get_template("page.html.j2").render(**names, style=style, script=script)
