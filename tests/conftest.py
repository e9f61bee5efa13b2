"""Fixtures that every test file may use."""

from __future__ import annotations

import asyncio
import gc
import io
import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from safetyqc.testing.server import FaultServer

SHARED_DATA = Path(os.environ.get("SAFETYQC_SHARED_DATA", Path(__file__).parents[2] / "shared" / "data"))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="also run tests that need minutes or a large model")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    # Compiling takes as long as hundreds of tests; the first of all tests go to one worker, which does it for all
    items.sort(key=lambda item: "compiled" not in item.keywords)
    if not config.getoption("--slow"):
        for item in items:
            if "slow" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="slow: run with --slow"))


def pytest_collection_finish() -> None:
    gc.freeze()  # thousands of tests and all modules are here to stay: no search for garbage need look at them again


@pytest.fixture
def shared_data() -> Path:
    """The folder of labelled conversations; tests that need it skip on a machine without it."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"no labelled data at {SHARED_DATA} (set SAFETYQC_SHARED_DATA to run this test)")
    return SHARED_DATA


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """The installed Chromium, driven by Playwright; without either the tests skip."""
    api = pytest.importorskip("playwright.sync_api", reason="no playwright: pip install 'safetyqc[dev]'")
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("no Chromium on this machine: apt-get install chromium")
    with api.sync_playwright() as playwright:
        flags = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        browser = playwright.chromium.launch(executable_path=path, args=flags)
        yield browser
        browser.close()


@dataclass(frozen=True)
class Ended:
    """What a command left: its exit code and what it wrote."""

    code: int
    out: str
    err: str


@pytest.fixture(scope="session")
def commands() -> Any:
    """The commands as click has them: building them takes longer than most of what tests do with them."""
    from typer.main import get_command

    from safetyqc.cli import app

    return get_command(app)


@pytest.fixture
def cli(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path, commands: Any
) -> Iterator[Callable[..., Ended]]:
    """Run a command line in this process and in an empty folder, as typed in a shell: `cli("check", "a.jsonl")`.

    `stdin=b"..."` is what is piped into it. No provider's key is set unless the test sets one.
    """
    from safetyqc.cli import main
    from safetyqc.llm.hosts import wished_keys

    before = signal.getsignal(signal.SIGINT)
    monkeypatch.chdir(tmp_path)
    for key in wished_keys():
        monkeypatch.delenv(key, raising=False)

    def run(*arguments: object, stdin: bytes | None = None) -> Ended:
        monkeypatch.setattr(sys, "argv", ["safetyqc", *map(str, arguments)])
        if stdin is not None:
            monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin), encoding="utf-8"))
        capfd.readouterr()
        with monkeypatch.context() as patch:
            if not {"--help", "-h"} & {*arguments}:  # help names what the tables hold now
                patch.setattr("safetyqc.cli.app", commands)
            with pytest.raises(SystemExit) as ended:
                main()
        code = ended.value.code
        return Ended(code if isinstance(code, int) else int(code is not None), *capfd.readouterr())

    yield run
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def serve() -> Iterator[Callable[..., FaultServer]]:
    """Start fault servers on a loop of their own: `serve(latency_s=0.01)`; each stops with the test."""
    from safetyqc.testing.server import FaultServer

    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    servers: list[FaultServer] = []

    def start(**settings: Any) -> FaultServer:
        async def make() -> FaultServer:
            server = FaultServer(**settings)
            await server.start()
            return server

        servers.append(asyncio.run_coroutine_threadsafe(make(), loop).result())
        return servers[-1]

    yield start
    for server in servers:
        asyncio.run_coroutine_threadsafe(server.stop(), loop).result()
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()
