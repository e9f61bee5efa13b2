"""An OpenAI-compatible server that goes wrong on demand, for rehearsing runs and for this project's own tests.

`python -m safetyqc.testing.server --fault rate_limited=0.05 --fault error_500=0.02` answers chat completions over real
HTTP with made-up text, and counts every request: `GET /witness` says whether anything good was answered twice. Which
attempt goes wrong depends on the seed and the request alone, so a fault mix is repeatable.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

import typer
from aiohttp import web
from pydantic_core import to_json

from safetyqc.errors import UserError, choose_from
from safetyqc.testing.answers import answer
from safetyqc.testing.batches import BATCH_FAULTS, BatchDesk
from safetyqc.testing.faults import FAULTS, Asked, completion, error_response


@dataclass
class Witness:
    """What the server saw and sent, by the hash of the request's body."""

    received: Counter[str] = field(default_factory=Counter)
    good: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    most_in_flight: int = 0

    @property
    def paid_twice(self) -> int:
        """Requests whose good answer was delivered more than once."""
        return sum(count > 1 for count in self.good.values())

    def as_dict(self) -> dict[str, Any]:
        """The figures, ready for JSON."""
        return {
            "requests": self.received.total(),
            "distinct_requests": len(self.received),
            "good_answers": self.good.total(),
            "paid_twice": self.paid_twice,
            "most_in_flight": self.most_in_flight,
            "faults": dict(self.faults.most_common()),
        }


class FaultServer:
    """The server; `async with FaultServer(...) as server` serves at `server.base_url`.

    Args:
        faults: share of attempts that go wrong, by fault.
        script: faults of the first requests, in order of arrival; None stands for a good answer.
        latency_s: time before an answer.
        formats: response formats that the server supports; others are refused with 400.
        max_in_flight: more than so many requests at once get 429; None for no limit.
        headers: added to every good answer.
        batch_faults: names of `batches.BATCH_FAULTS`, for all batches; batch_s: seconds until a batch has ended.
    """

    def __init__(
        self,
        *,
        faults: Mapping[str, float] | None = None,
        script: Iterable[str | None] = (),
        latency_s: float = 0.0,
        seed: int = 0,
        formats: Iterable[str] = ("json_schema", "json_object", "text"),
        max_in_flight: int | None = None,
        retry_after_s: float = 1.0,
        headers: Mapping[str, str] | None = None,
        batch_faults: Iterable[str] = (),
        batch_s: float = 0.0,
    ) -> None:
        self.faults = dict(faults or {})
        self.script = list(script)
        for name in [*self.faults, *(n for n in self.script if n)]:
            if name not in FAULTS:
                raise UserError(f"no fault {name!r}", fix=choose_from(name, FAULTS))
        self.latency_s, self.seed, self.retry_after_s = latency_s, seed, retry_after_s
        self.formats, self.max_in_flight, self.headers = frozenset(formats), max_in_flight, headers
        self.witness = Witness()
        self.desk = BatchDesk(self._complete_line, batch_faults, batch_s)
        self.bodies: list[dict[str, Any]] = []
        self.keep_bodies = False
        self.base_url = ""
        self._in_flight = 0
        self._runner: web.AppRunner | None = None
        self._stopped = asyncio.Event()

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> None:
        """Listen; port 0 takes a free one.

        Raises:
            UserError: the port is taken.
        """
        app = web.Application(client_max_size=64 * 2**20)
        app.router.add_post("/v1/chat/completions", self._complete)
        app.router.add_get("/v1/models", self._models)
        app.router.add_get("/witness", self._witness)
        self.desk.add_routes(app)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, host, port, backlog=1024).start()
        except OSError as error:
            await self._runner.cleanup()
            raise UserError(f"port {port} cannot be used: {error.strerror}", fix="--port 0 takes a free one") from error
        address = self._runner.addresses[0]
        self.base_url = f"http://{address[0]}:{address[1]}/v1"

    async def stop(self) -> None:
        """Close every connection and stop listening."""
        self._stopped.set()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def __aenter__(self) -> FaultServer:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def _models(self, _: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": [{"id": "any", "object": "model"}]})

    async def _witness(self, _: web.Request) -> web.Response:
        return web.json_response(self.witness.as_dict() | {"batches": len(self.desk.batches)})

    async def _complete(self, http: web.Request) -> web.StreamResponse:
        raw = await http.read()
        body: dict[str, Any] = json.loads(raw)
        name = hashlib.sha256(raw).hexdigest()
        attempt = self.witness.received[name]
        self.witness.received[name] += 1
        if self.keep_bodies:
            self.bodies.append(body)
        self._in_flight += 1
        self.witness.most_in_flight = max(self.witness.most_in_flight, self._in_flight)
        try:
            if self.latency_s:
                await asyncio.sleep(self.latency_s)
            return await self._answer(http, body, name, attempt)
        finally:
            self._in_flight -= 1

    async def _answer(self, http: web.Request, body: dict[str, Any], name: str, attempt: int) -> web.StreamResponse:
        form = (body.get("response_format") or {}).get("type", "text")
        if form not in self.formats:
            return error_response(400, f"response_format {form!r} is not supported", "invalid_request_error")
        if self.max_in_flight is not None and self._in_flight > self.max_in_flight:
            self.witness.faults["rate_limited"] += 1
            return error_response(429, "too many requests at once", "rate_limit_exceeded")
        text = answer(body, random.Random(f"{self.seed} {name}"))
        asked = Asked(http, body, text, self.retry_after_s, self.witness.received.total(), self._stopped)
        fault = self._choose(name, attempt)
        if fault is None:
            response: web.StreamResponse = web.json_response(asked.completion(), headers=self.headers)
        else:
            self.witness.faults[fault] += 1
            response = await FAULTS[fault].send(asked)
        if fault is None or FAULTS[fault].good:
            await self._deliver(http, response, name)
        return response

    def _complete_line(self, body: dict[str, Any]) -> dict[str, Any]:
        """Answer one line of a batch as a single request would be answered."""
        name = hashlib.sha256(to_json(body)).hexdigest()
        self.witness.received[name] += 1
        self.witness.good[name] += 1
        if self.keep_bodies:
            self.bodies.append(body)
        return completion(body, answer(body, random.Random(f"{self.seed} {name}")), self.witness.received.total())

    async def _deliver(self, http: web.Request, response: web.StreamResponse, name: str) -> None:
        """Count a good answer only when somebody was still there to take it."""
        with contextlib.suppress(ConnectionError):
            await response.prepare(http)
            await response.write_eof()
            if http.transport is not None and not http.transport.is_closing():
                self.witness.good[name] += 1

    def _choose(self, name: str, attempt: int) -> str | None:
        if self.script:
            return self.script.pop(0)
        drawn = random.Random(f"{self.seed} {name} {attempt}").random()
        for fault, share in self.faults.items():
            drawn -= share
            if drawn < 0:
                return fault
        return None


@contextlib.contextmanager
def serving() -> Iterator[str]:
    """The base URL of a server without faults in a process of its own, which ends with the block."""
    command = [sys.executable, "-m", __name__, "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        try:
            assert server.stderr is not None
            yield server.stderr.readline().split()[-1]
        finally:
            server.terminate()


def serve(
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1; 0 takes a free one.")] = 8399,
    fault: Annotated[list[str] | None, typer.Option(help="NAME=SHARE, such as error_500=0.02. Repeatable.")] = None,
    latency_s: Annotated[float, typer.Option("--latency", help="Seconds before an answer.")] = 0.0,
    seed: Annotated[int, typer.Option(help="Other seed, other faults.")] = 0,
    retry_after_s: Annotated[float, typer.Option("--retry-after", help="Seconds that 429 asks to wait.")] = 1.0,
    max_in_flight: Annotated[int | None, typer.Option(help="More requests at once get 429.")] = None,
    formats: Annotated[str, typer.Option(help="Supported response formats.")] = "json_schema,json_object,text",
    batch_fault: Annotated[list[str] | None, typer.Option(help="A fault of all batches. Repeatable.")] = None,
    batch_s: Annotated[float, typer.Option("--batch-time", help="Seconds until a batch has ended.")] = 5.0,
    list_faults: Annotated[bool, typer.Option("--list", help="List the faults and stop.")] = False,
) -> None:
    """Serve chat completions that go wrong as told, for rehearsals: no model, no key, no cost.

    Example: python -m safetyqc.testing.server --fault rate_limited=0.05 --fault error_500=0.02
    """
    if list_faults:
        for name, known in FAULTS.items():
            typer.echo(f"{name:26}{known.about}")
        for name, about in BATCH_FAULTS.items():
            typer.echo(f"{name:26}batches: {about}")
        return
    try:
        server = FaultServer(
            faults=_shares(fault or []),
            latency_s=latency_s,
            seed=seed,
            retry_after_s=retry_after_s,
            max_in_flight=max_in_flight,
            formats=formats.split(","),
            batch_faults=batch_fault or (),
            batch_s=batch_s,
        )
        asyncio.run(_serve(server, port))
    except UserError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(error.exit_code) from error
    typer.echo(json.dumps(server.witness.as_dict()), err=True)


def _shares(faults: list[str]) -> dict[str, float]:
    shares = {}
    for text in faults:
        name, _, share = text.partition("=")
        try:
            shares[name] = float(share)
        except ValueError as error:
            raise UserError(f"not NAME=SHARE: {text!r}", fix="write it like error_500=0.02") from error
    return shares


async def _serve(server: FaultServer, port: int) -> None:
    await server.start(port=port)
    typer.echo(f"serving at {server.base_url}", err=True)
    typer.echo(f"try: safetyqc run -n 20 -m openai/any --api-base {server.base_url}", err=True)
    ended = asyncio.Event()
    for sign in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(sign, ended.set)
    await ended.wait()
    await server.stop()


if __name__ == "__main__":
    typer.run(serve)
