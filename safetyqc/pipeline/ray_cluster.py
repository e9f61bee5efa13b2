"""A Ray cluster as its driver sees it: reached, or started on this machine, and called.

`RaySpread` runs calls of functions there (`dedup.blocks`); actors are `ray_engine`'s. It knows no stage and no model.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError, TaskCancelledError

from safetyqc.errors import FatalModelError, SafetyqcError, UserError

MOST_DEATHS = 5
"""What died so often in somebody's hands is given up: perhaps it is what kills them."""
_REACHED_WITHIN_S = 10


class Cluster:
    """The cluster that this process is connected to."""

    def __init__(self, address: str | None) -> None:
        self._address = address or os.environ.get("RAY_ADDRESS")
        self._is_ours = self.is_open = False
        self.cores = self.machines = 0

    def open(self) -> None:
        """Connect, or start one on this machine; a connection that the program has already is used.

        Raises:
            UserError: there is none at the address.
        """
        if self.is_open:
            return
        if not ray.is_initialized():
            self._start()
            self._is_ours = True
        self.cores = max(int(ray.cluster_resources().get("CPU", 1)), 1)
        self.machines = sum(1 for node in ray.nodes() if node["Alive"])
        self.is_open = True

    def _start(self) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        logging.getLogger("ray").setLevel(logging.ERROR)
        told: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
        in_main = threading.current_thread() is threading.main_thread()
        before = signal.getsignal(signal.SIGTERM)
        try:
            if self._address is None:
                ray.init(include_dashboard=False, **told)
                return
            _refuse_unreachable(self._address)
            ray.init(address=self._address, **told)
        except (ConnectionError, ValueError, RuntimeError, RayError) as error:
            raise UserError(
                f"no Ray cluster could be used: {str(error).splitlines()[0]}",
                where=f"--ray-address {self._address}" if self._address else "--engine ray",
                fix="`ray status` on that machine tells whether one runs; `ray start --head` starts one",
            ) from error
        finally:
            if in_main:  # Ray takes SIGTERM for itself, which asks to stop here
                signal.signal(signal.SIGTERM, before)

    def close(self) -> None:
        """Disconnect, and end what was started."""
        if self._is_ours:
            ray.shutdown()
        self._is_ours = self.is_open = False


def _refuse_unreachable(address: str) -> None:
    """Say at once what Ray says after minutes.

    Raises:
        UserError: it is no address of a cluster, or nothing answers there.
    """
    fix = "give HOST:6379 of the cluster's head, from a machine that is part of the cluster, or auto on one that is"
    host, _, port = address.rpartition(":")
    if address in ("auto", "local"):
        return
    if "/" in address or not host or not port.isdecimal():
        raise UserError(f"not an address of a cluster's head: {address!r}", where="--ray-address", fix=fix)
    try:
        socket.create_connection((host, int(port)), timeout=_REACHED_WITHIN_S).close()
    except (OSError, OverflowError) as error:
        raise UserError(f"nothing answers at {address}: {error}", where="--ray-address", fix=fix) from error


class RaySpread:
    """Calls functions on the cluster's machines; see `dedup.blocks.Spread`.

    A call that dies with its machine is made again by Ray, and so is what lay in that machine's memory; what does not
    fit a machine's memory is spilled to its disk.
    """

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._made: dict[Callable[..., Any], Any] = {}
        self.calls = 0

    @property
    def size(self) -> int:
        """Calls that can run at a time."""
        self._cluster.open()
        return self._cluster.cores

    def put(self, value: Any) -> Any:
        """Keep a value where calls can reach it."""
        self._cluster.open()
        return ray.put(value)

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Start a call; arguments may be what `put` and `call` returned."""
        self._cluster.open()
        if function not in self._made:
            self._made[function] = ray.remote(function).options(num_cpus=1, max_retries=MOST_DEATHS)
        self.calls += 1
        return self._made[function].remote(*arguments)

    def results(self, calls: Sequence[Any]) -> Iterator[Any]:
        """What calls returned, as they end.

        Raises:
            SafetyqcError: what one of them raised.
            FatalModelError: one died too often.
        """
        waiting = list(calls)
        try:
            while waiting:
                ended, waiting = ray.wait(waiting, num_returns=1)
                yield ray.get(ended[0])
        except RayTaskError as error:
            if isinstance(error.cause, SafetyqcError):
                raise error.cause from error
            raise
        except RayError as error:
            fix = "give the cluster's machines more memory, or set --memory lower, which makes blocks smaller"
            raise FatalModelError(f"a block's search died {MOST_DEATHS} times: {error}", fix=fix) from error
        finally:
            for call in waiting:
                with contextlib.suppress(TaskCancelledError):
                    ray.cancel(call)
