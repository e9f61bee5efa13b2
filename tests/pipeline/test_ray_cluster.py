"""What is wrong with a cluster's address is said at once, and in words."""

from __future__ import annotations

import pytest

from safetyqc.errors import UserError

ray = pytest.importorskip("ray")
ray_cluster = pytest.importorskip("safetyqc.pipeline.ray_cluster")


@pytest.mark.parametrize("address", ["ray://head:10001", "head", "head:", ":6379", "127.0.0.1:9"])
def test_an_address_without_a_cluster_is_told_at_once(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    with pytest.raises(UserError, match=r"not an address|nothing answers"):
        ray_cluster.Cluster(address).open()
