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
    """A task that asks nobody and takes a moment."""

    asks = False

    async def do(self, item: int, context: Context) -> int:
        import asyncio

        await asyncio.sleep(0.05)
        return item * item


@pytest.mark.slow
async def test_a_lost_machine_loses_nothing(machines: Any) -> None:
    lost = machines.add_node(num_cpus=1, object_store_memory=100_000_000)
    engine = ray_engine.RayEngine(EngineSettings(size=2, address=machines.address), Stop())
    try:
        found: dict[int, Any] = {}
        async for item, said in engine.map(range(1_000), Squaring(), Context(lambda: None)):
            found[item] = said
            if len(found) == 200:
                machines.remove_node(lost, allow_graceful=False)
        assert found == {item: item * item for item in range(1_000)}
        assert engine._pool.died >= 1
    finally:
        await engine.close()
