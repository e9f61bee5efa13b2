"""The page's server: on this machine alone, for whoever has the address with its token, until nobody uses it.

The conversations are attacks, and other pages in the same browser may be too. So the token stands in front of every
path, the Host must be this machine (a name that was bound to 127.0.0.1 is refused), what writes must come from the page
itself, and the page's policy lets nothing run but its own script. Everything is answered from `desk`.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import secrets
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from aiohttp import web
from pydantic import ValidationError

from safetyqc.errors import OutputError, RunError, UserError
from safetyqc.llm.client import fast_json
from safetyqc.records import Record
from safetyqc.review import showing
from safetyqc.review.desk import Desk, Given, Noted, Place

if TYPE_CHECKING:
    from aiohttp.typedefs import Handler

HOST = "127.0.0.1"
_LARGEST_BODY = 64 * 1024
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_ASSETS = {"review.js": "text/javascript", "review.css": "text/css", "icon.svg": "image/svg+xml"}


@dataclass
class ReviewServer:
    """Serves one desk; `async with` listens, `until_idle` ends when nobody asked for anything in `idle_s` seconds."""

    desk: Desk
    port: int = 0
    idle_s: float = 7200.0
    token: str = field(default_factory=lambda: secrets.token_urlsafe(24))
    address: str = ""
    """The whole address, with its token; empty before it listens."""

    def __post_init__(self) -> None:
        self._last = time.monotonic()
        self._stopped = asyncio.Event()
        app = web.Application(middlewares=[self._guard], client_max_size=_LARGEST_BODY)
        app.router.add_get(f"/{self.token}/", self._page)
        for name in _ASSETS:
            app.router.add_get(f"/{self.token}/{name}", self._asset)
        for path, read in {
            "start": self._start,
            "item": self._item,
            "verdicts": self._verdicts,
            "search": self._search,
            "agreement": self._agreement,
        }.items():
            app.router.add_get(f"/{self.token}/{path}", self._reading(read))
        for path, write in {
            "label": self._label,
            "note": self._note,
            "defer": self._defer,
            "undo": self._undo,
            "next": self._next,
        }.items():
            app.router.add_post(f"/{self.token}/{path}", self._writing(write))
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)

    async def __aenter__(self) -> ReviewServer:
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, HOST, self.port).start()
        except OSError as error:
            await self._runner.cleanup()
            what = f"cannot listen on port {self.port}: {error.strerror}"
            raise OutputError(what, where="--port", fix="leave it out for a free one") from error
        self.port = self._runner.addresses[0][1]
        self.address = f"http://{HOST}:{self.port}/{self.token}/"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    async def until_idle(self) -> bool:
        """Wait until nobody uses the page any more, or Ctrl-C; returns whether nobody did."""
        loop = asyncio.get_running_loop()
        for name in (signal.SIGINT, signal.SIGTERM):
            with contextlib.suppress(NotImplementedError):  # Windows: there Ctrl-C raises
                loop.add_signal_handler(name, self._stopped.set)
        while not self._stopped.is_set():
            left = self._last + self.idle_s - time.monotonic()
            if left <= 0:
                return True
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopped.wait(), left)
        return False

    # ---- who may ask -----------------------------------------------------------------------------------------------

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        refusal = self._refusal(request)
        if refusal:
            response: web.StreamResponse = web.Response(status=refusal[0], text=refusal[1] + "\n")
        else:
            self._last = time.monotonic()
            try:
                response = await handler(request)
            except web.HTTPException as error:
                response = web.Response(status=error.status, text=error.reason + "\n")
        response.headers.update(_HEADERS)
        return response

    def _refusal(self, request: web.Request) -> tuple[int, str] | None:
        """Status and reason where a request is not the page's own."""
        own = {f"{name}:{self.port}" for name in (HOST, "localhost")}
        if request.headers.get("Host", "").lower() not in own:
            return 421, "this server answers to 127.0.0.1 alone"
        first = request.path.split("/")[1].encode("utf-8", "replace")
        if not hmac.compare_digest(first, self.token.encode()):
            return 403, "open the whole address that `safetyqc review` printed"
        origin = request.headers.get("Origin")
        if origin is not None and origin.lower() not in {f"http://{host}" for host in own}:
            return 403, "this comes from another page"
        if request.headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin"):
            return 403, "this comes from another page"
        if request.method == "POST" and request.content_type != "application/json":
            return 415, "send application/json"
        return None

    # ---- the page --------------------------------------------------------------------------------------------------

    async def _page(self, _: web.Request) -> web.Response:
        text = _environment().get_template("page.html.j2").render(annotator=self.desk.annotator)
        return web.Response(text=text, content_type="text/html")

    async def _asset(self, request: web.Request) -> web.Response:
        name = request.path.rsplit("/", 1)[-1]
        body = (files("safetyqc.review") / "page" / name).read_text(encoding="utf-8")
        return web.Response(text=body, content_type=_ASSETS[name])

    def _reading(self, answer: Callable[[web.Request], Any]) -> Handler:
        async def handle(request: web.Request) -> web.StreamResponse:
            return _answered(lambda: answer(request))

        return handle

    def _writing(self, answer: Callable[[bytes], Any]) -> Handler:
        async def handle(request: web.Request) -> web.StreamResponse:
            body = await request.read()
            return _answered(lambda: answer(body))

        return handle

    # ---- what the page asks ----------------------------------------------------------------------------------------

    def _start(self, _: web.Request) -> dict[str, Any]:
        self.desk.refresh()
        place = self.desk.first()
        return {
            "annotator": self.desk.annotator,
            "queue": self.desk.queue,
            "decides": self.desk.decides,
            "rubric": showing.tell_rubric(self.desk),
            **self._at(place),
        }

    def _at(self, place: Place | None, criterion: str | None = None) -> dict[str, Any]:
        """An item before the annotator, who sees it from now on; None where nothing is left."""
        told: dict[str, Any] = {"item": None, "criterion": criterion}
        if place is not None:
            self.desk.show(place)
            told["item"] = showing.tell_item(self.desk, place)
        return told | {"progress": showing.tell_progress(self.desk)}

    def _item(self, request: web.Request) -> dict[str, Any]:
        return self._at(self._place(request.query.get("at", "")))

    def _place(self, text: str) -> Place:
        if not text.isdecimal() or len(text) > 9 or int(text) >= len(self.desk.items):
            raise UserError(f"no item {text!r} in this queue", fix=f"it holds 0 to {len(self.desk.items) - 1}")
        return Place(int(text))

    def _verdicts(self, request: web.Request) -> list[dict[str, Any]]:
        return showing.tell_verdicts(self.desk, request.query.get("id", ""))

    def _search(self, request: web.Request) -> dict[str, Any]:
        return showing.search(self.desk, request.query.get("text", ""))

    def _agreement(self, _: web.Request) -> dict[str, Any]:
        return showing.tell_agreement(self.desk)

    def _label(self, body: bytes) -> dict[str, Any]:
        given = Given.model_validate_json(body)
        self.desk.label(given)
        place = Place(self.desk.positions[given.id], given.again)
        if not self.desk.is_finished(self.desk.items[place.at], again=place.again):
            return {**self._here(place), "next": None}
        return {**self._here(place), "next": self._at(self.desk.next_open(place.at))}

    def _here(self, place: Place) -> dict[str, Any]:
        return {"item": showing.tell_item(self.desk, place), "progress": showing.tell_progress(self.desk)}

    def _note(self, body: bytes) -> dict[str, Any]:
        noted = Noted.model_validate_json(body)
        self.desk.note(noted)
        return self._here(Place(self.desk.positions[noted.id]))

    def _defer(self, body: bytes) -> dict[str, Any]:
        left = _Left.model_validate_json(body)
        if not left.again:
            self.desk.defer(left.id)
        return self._at(self.desk.next_open(self.desk.positions[left.id]))

    def _undo(self, _: bytes) -> dict[str, Any]:
        return self._at(*self.desk.undo())

    def _next(self, body: bytes) -> dict[str, Any]:
        left = _Left.model_validate_json(body)
        self.desk.refresh()
        return self._at(self.desk.next_open(self.desk.positions.get(left.id, -1)))


class _Left(Record):
    """The item that the annotator leaves."""

    id: str
    again: bool = False


def _answered(answer: Callable[[], Any]) -> web.Response:
    """An answer as JSON; where what was asked cannot be, why."""
    try:
        told, status = answer(), 200
    except ValidationError:
        told, status = {"error": "the page sent what the server does not know: reload it"}, 400
    except RunError as error:
        told, status = {"error": str(error)}, 500
    except UserError as error:
        told, status = {"error": str(error)}, 409
    return web.Response(body=fast_json(told), status=status, content_type="application/json")


def _environment() -> Any:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    return Environment(loader=PackageLoader("safetyqc.review", "page"), autoescape=True, undefined=StrictUndefined)


async def serve(server: ReviewServer, ready: Callable[[str], None]) -> bool:
    """Listen, tell the address, and serve until nobody uses the page; returns whether that is why it ended."""
    async with server:
        ready(server.address)
        return await server.until_idle()
