"""The lanes to models by name: ways to carry a request to a server and its answer back, one attempt at a time.

A new lane is a file with a Client and a line in `LANES`; `--lane NAME` and the settings take their names from the
table. Which lane `auto` takes is the door's decision; models that run in this process have one of their own, which
cannot be chosen. Clients are imported when a lane is opened, since some take seconds to load.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from safetyqc.errors import UserError, choose_from

if TYPE_CHECKING:
    from safetyqc.llm.batch.direct import BatchLane
    from safetyqc.llm.client import Client

_MOST_PROCESSES = 4
AUTO = "auto"
IN_PROCESS = "local"
"""What `Door.lane_name` says of models that run in this process."""
NANOCHAT_LANE = "nanochat"
"""What it says of nanochat servers: a model's name leads there, and no choice."""


@dataclass(frozen=True)
class Lane:
    """How to open a lane; both functions take the key that overrides the provider's variable, and a timeout in seconds.

    Args:
        open_batches: the same way to a provider's batch API; None: its requests go one by one.
        fills_a_core: at a few hundred calls a second it uses a core up, so that several processes pay off.
    """

    open: Callable[[str | None, float], Client]
    open_batches: Callable[[str | None, float], BatchLane] | None = None
    fills_a_core: bool = False


def _direct(api_key: str | None, timeout_s: float) -> Client:
    from safetyqc.llm.direct import DirectClient

    return DirectClient(api_key=api_key, timeout_s=timeout_s)


def _direct_batches(api_key: str | None, timeout_s: float) -> BatchLane:
    from safetyqc.llm.batch.direct import DirectBatches

    return DirectBatches(api_key=api_key, timeout_s=timeout_s)


def _litellm(api_key: str | None, timeout_s: float) -> Client:
    from safetyqc.llm.litellm_client import LitellmClient

    return LitellmClient(api_key=api_key, timeout_s=timeout_s)


def _litellm_batches(api_key: str | None, timeout_s: float) -> BatchLane:
    from safetyqc.llm.batch.litellm_batches import LitellmBatches

    return LitellmBatches(api_key=api_key, timeout_s=timeout_s)


def _nanochat(_: str | None, timeout_s: float) -> Client:
    from safetyqc.llm.nanochat import NanochatClient

    return NanochatClient(timeout_s=timeout_s)


LANES: dict[str, Lane] = {
    "direct": Lane(_direct, _direct_batches),
    "litellm": Lane(_litellm, _litellm_batches, fills_a_core=True),
}
"""Name -> lane; open to additions."""


def lane_names() -> list[str]:
    """What may be chosen: a lane, or to leave the choice to the door."""
    return [AUTO, *LANES]


def find_lane(name: str) -> Lane:
    """Look a lane up.

    Raises:
        UserError: no such lane; names the valid ones.
    """
    if name == NANOCHAT_LANE:
        return Lane(_nanochat)
    if name not in LANES:
        raise UserError(f"no lane {name!r} to models", fix=choose_from(name, lane_names()))
    return LANES[name]


class OpenLane(Protocol):
    """Opens a lane: in this process, or as an engine does."""

    def __call__(self, name: str, *, api_key: str | None, timeout_s: float) -> Client:
        """Open the lane of this name."""
        ...


def open_lane(name: str, *, api_key: str | None, timeout_s: float) -> Client:
    """Open a lane in this process."""
    return find_lane(name).open(api_key, timeout_s)


def open_batch_lane(name: str, *, api_key: str | None, timeout_s: float) -> BatchLane:
    """Open the way to a provider's batch API.

    Raises:
        UserError: no such lane, or one that carries no batches.
    """
    open_batches = find_lane(name).open_batches
    if open_batches is None:
        raise UserError(f"lane {name!r} carries no batches", fix="give another --lane, or leave --batch out")
    return open_batches(api_key, timeout_s)


def auto_workers(name: str) -> int:
    """Processes that pay off: several where one would use up a core, as litellm's lane does."""
    cores = count_cores()
    return min(cores, _MOST_PROCESSES) if name in LANES and LANES[name].fills_a_core and cores > 1 else 0


def count_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def has_batches(name: str) -> bool:
    """Whether a lane can carry batches; the one to models in this process cannot."""
    return name in LANES and LANES[name].open_batches is not None
