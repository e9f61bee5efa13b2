"""Reads conversation files of any form: `reading` is the door, `table` has the forms, each of a family's file.

A new form is a file with a `RecordForm` and a line in `READERS`.
"""

from safetyqc.formats.readers.form import RecordForm as RecordForm
from safetyqc.formats.readers.reading import Account as Account
from safetyqc.formats.readers.reading import ReadResult as ReadResult
from safetyqc.formats.readers.reading import collect as collect
from safetyqc.formats.readers.reading import from_values as from_values
from safetyqc.formats.readers.reading import iter_conversations as iter_conversations
from safetyqc.formats.readers.reading import iter_with_values as iter_with_values
from safetyqc.formats.readers.reading import read_conversations as read_conversations
from safetyqc.formats.readers.table import READERS as READERS
