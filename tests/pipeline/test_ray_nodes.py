"""A machine of the cluster that is lost costs what it had in hand one attempt."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from safetyqc.pipeline.engine import Context, EngineSettings, Stop

ray = pytest.importorskip("ray")
ray_engine = pytest.importorskip("safetyqc.pipeline.ray_engine")
cluster_utils = pytest.importorskip("ray.cluster_utils")


@pytest.fixture
def machines() -> Iterator[Any]:
    """Two of one core each, as far as Ray can tell; actors of one core fill them."""
    head = {"num_cpus": 1, "object_store_memory": 100_000_000, "include_dashboard": False}
    cluster = cluster_utils.Cluster(initialize_head=True, head_node_args=head)
    try:
        yield cluster
    finally:
        ray.shutdown()
        cluster.shutdown()


class Squaring:
    """A task that asks nobody, takes a moment and says on which machine."""

    asks = False

    async def do(self, item: int, context: Context) -> tuple[int, str]:
        import asyncio

        import ray

        await asyncio.sleep(0.3)
        return item * item, ray.get_runtime_context().get_node_id()


@pytest.mark.slow
async def test_a_lost_machine_loses_nothing(machines: Any) -> None:
    lost = machines.add_node(num_cpus=1, object_store_memory=100_000_000)
    engine = ray_engine.RayEngine(EngineSettings(size=2, address=machines.address), Stop())
    try:
        found: dict[int, Any] = {}
        here = True
        async for item, (square, machine) in engine.map(range(2_000), Squaring(), Context(lambda: None)):
            found[item] = square
            if here and machine == lost.node_id:  # its actor is at work, with more in hand
                machines.remove_node(lost, allow_graceful=False)
                here = False
        assert found == {item: item * item for item in range(2_000)}
        assert engine._pool.died >= 1
    finally:
        await engine.close()
