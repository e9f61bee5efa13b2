import os

import numpy as np
import pytest

from safetyqc.dedup.mapped import map_arrays, write_arrays

ARRAYS = {
    "numbers": np.arange(7, dtype=np.uint32),
    "empty": np.empty(0, np.float32),
    "table": np.arange(6, dtype=np.int64).reshape(2, 3),
    "pairs": np.array([(1, 0.5), (2, 0.25)], [("row", np.int32), ("weight", np.float32)]),
}


def test_arrays_come_back_as_they_were_and_changing_them_changes_no_file(tmp_path):
    written = write_arrays(tmp_path / "a", ARRAYS)
    found = map_arrays(tmp_path / "a")
    assert list(found) == list(ARRAYS)
    for name, array in ARRAYS.items():
        assert found[name].dtype == array.dtype
        assert np.array_equal(found[name], array), name
    found["numbers"][0] = 99
    assert map_arrays(tmp_path / "a")["numbers"][0] == 0
    assert written.is_still_at(tmp_path)


@pytest.mark.parametrize("change", [lambda b: b[:-1], lambda b: b[:70] + b"x" + b[71:]], ids=["shorter", "changed"])
def test_another_content_is_seen_even_where_size_and_time_are_the_same(tmp_path, change):
    written = write_arrays(tmp_path / "a", ARRAYS)
    before = (tmp_path / "a").stat()
    (tmp_path / "a").write_bytes(change((tmp_path / "a").read_bytes()))
    os.utime(tmp_path / "a", ns=(before.st_atime_ns, before.st_mtime_ns))
    assert not written.is_still_at(tmp_path)


def test_another_time_alone_is_no_change_and_a_missing_file_is(tmp_path):
    written = write_arrays(tmp_path / "a", ARRAYS)
    os.utime(tmp_path / "a", ns=(1, 1))
    assert written.is_still_at(tmp_path)
    (tmp_path / "a").unlink()
    assert not written.is_still_at(tmp_path)
