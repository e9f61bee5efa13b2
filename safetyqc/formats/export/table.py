"""The formats that conversations are exported in, by name; encoding.py says what one is made of."""

from __future__ import annotations

from pathlib import Path

from safetyqc.errors import UserError, choose_from
from safetyqc.formats.export.chat import LLAMAFACTORY, NANOCHAT, OPENAI, SAFETYQC, SHAREGPT
from safetyqc.formats.export.columns import CSV, PARQUET
from safetyqc.formats.export.encoding import Exporter
from safetyqc.formats.export.preference import DPO, KTO, LLAMAFACTORY_DPO, LLAMAFACTORY_KTO, PROMPT_COMPLETION

EXPORTERS: dict[str, Exporter] = {
    "nanochat": NANOCHAT,
    "openai": OPENAI,
    "sharegpt": SHAREGPT,
    "prompt-completion": PROMPT_COMPLETION,
    "dpo": DPO,
    "kto": KTO,
    "llamafactory": LLAMAFACTORY,
    "llamafactory-dpo": LLAMAFACTORY_DPO,
    "llamafactory-kto": LLAMAFACTORY_KTO,
    "parquet": PARQUET,
    "csv": CSV,
    "safetyqc": SAFETYQC,
}
"""Name -> format; open to additions. `safetyqc` writes whole records, which every command reads back without loss."""


def format_for(path: Path | None, named: str | None, last: str | None = None) -> str:
    """The format of a file: what its name tells, else what was asked for, else what was used last, else nanochat.

    Raises:
        UserError: the name tells another format than the one that was asked for, or one that none here writes.
    """
    suffix = path.suffix.lower() if path else ""
    known = [name for name, exporter in EXPORTERS.items() if Path(exporter.file_name).suffix == suffix]
    if suffix in _OF_OTHERS:
        fix = "name it .jsonl, .parquet or .csv"
        raise UserError(f"no format writes {suffix} files", where=str(path), fix=fix)
    if len(known) == 1:
        if named not in (None, *known):
            fix = f"leave --format out, or name the file {Path(exporter_of(named or '').file_name).suffix}"
            raise UserError(f"its name says {known[0]}, and --format {named}", where=str(path), fix=fix)
        return known[0]
    return named or last or next(iter(EXPORTERS))


_OF_OTHERS = (".tsv", ".xlsx", ".xls", ".ods", ".arrow", ".feather", ".db", ".yaml", ".yml", ".html", ".md")
"""Whoever opens such a file expects something else than lines of JSON."""


def exporter_of(name: str) -> Exporter:
    """Look a format up.

    Raises:
        UserError: no such format; names the nearest one.
    """
    if name not in EXPORTERS:
        raise UserError(f"no export format {name!r}", fix=choose_from(name, EXPORTERS))
    return EXPORTERS[name]
