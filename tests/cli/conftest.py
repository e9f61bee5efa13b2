"""The run that several tests of commands copy."""

from __future__ import annotations

from pathlib import Path

import pytest

from safetyqc.store import Store
from tests.support.runs import fill_with_everything


@pytest.fixture(scope="session")
def filled_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run in which everything happened once."""
    folder = tmp_path_factory.mktemp("run") / "r"
    with Store.create(folder) as store:
        fill_with_everything(store)
    return folder
