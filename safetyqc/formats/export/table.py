"""The formats that conversations are exported in, by name; encoding.py says what one is made of."""

from __future__ import annotations

from safetyqc.errors import UserError, choose_from
from safetyqc.formats.export.chat import LLAMAFACTORY, NANOCHAT, OPENAI, SAFETYQC, SHAREGPT
from safetyqc.formats.export.columns import PARQUET
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
    "safetyqc": SAFETYQC,
}
"""Name -> format; open to additions. `safetyqc` writes whole records, which every command reads back without loss."""


def exporter_of(name: str) -> Exporter:
    """Look a format up.

    Raises:
        UserError: no such format; names the nearest one.
    """
    if name not in EXPORTERS:
        raise UserError(f"no export format {name!r}", fix=choose_from(name, EXPORTERS))
    return EXPORTERS[name]
