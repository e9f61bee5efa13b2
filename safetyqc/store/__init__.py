"""A run is one folder with one SQLite file; nothing outside this package knows SQL.

`Store` (run.py) takes and gives records, with the tables of `calls.py`, `judgments.py`, `labels.py`, `reviews.py` and
`probes.py`; `opened.py` opens and closes it, `writer.py` makes things durable, `schema.py` holds the tables,
`upgrade.py` those of earlier versions.
"""

from safetyqc.llm.batch.records import Batch, BatchAnswer, BatchStatus
from safetyqc.store.calls import Spending
from safetyqc.store.file import FILE_NAME
from safetyqc.store.judgments import Judged, Looked, Verdict
from safetyqc.store.reviews import Act
from safetyqc.store.run import Drop, Placed, Store, Timing
from safetyqc.store.schema import FORMAT

__all__ = [
    "FILE_NAME",
    "FORMAT",
    "Act",
    "Batch",
    "BatchAnswer",
    "BatchStatus",
    "Drop",
    "Judged",
    "Looked",
    "Placed",
    "Spending",
    "Store",
    "Timing",
    "Verdict",
]
