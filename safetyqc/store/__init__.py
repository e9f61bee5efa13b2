"""A run is one folder with one SQLite file; nothing outside this package knows SQL.

`Store` (run.py) takes and gives records; `writer.py` makes them durable, `file.py` holds the tables.
"""

from safetyqc.llm.batch.records import Batch, BatchAnswer, BatchStatus
from safetyqc.store.file import FILE_NAME, FORMAT
from safetyqc.store.run import Judged, Spending, Store, Timing

__all__ = ["FILE_NAME", "FORMAT", "Batch", "BatchAnswer", "BatchStatus", "Judged", "Spending", "Store", "Timing"]
