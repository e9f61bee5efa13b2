"""Where counts and rows wait for their turn: in memory, or in temporary files that a disk may have no room for."""

from __future__ import annotations

import resource
from collections.abc import Iterator

import numpy as np
import pytest

from safetyqc.dedup.rows import Counted, Spool, room_for
from safetyqc.errors import OutputError

FULL = r"(?s)no room for a temporary file: .*TMPDIR"


@pytest.fixture
def small_files() -> Iterator[None]:
    """No file may grow beyond a megabyte."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.usefixtures("small_files")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # the file ends with the spool
def test_counts_that_no_file_has_room_for_are_explained() -> None:
    spool, size = Spool(1000), 50_000
    block = Counted(
        np.array([0, size]), np.arange(size, dtype=np.uint64), np.ones(size, np.int32), np.zeros((1, 2), np.uint64)
    )
    spool.add(block)
    spool.add(block)
    with pytest.raises(OutputError, match=FULL):
        spool.add(block)


@pytest.mark.usefixtures("small_files")
def test_rows_that_no_file_has_room_for_are_refused_before_they_are_written() -> None:
    assert room_for(100_000, np.float32, 1000).shape == (100_000,)
    with pytest.raises(OutputError, match=FULL):
        room_for(1_000_000, np.float32, 1000)
