"""What a trainer has to be told to read the files of a dataset folder: LLaMA-Factory, axolotl, TRL.

Only what is about the data: which model is trained, and how, is written nowhere here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import yaml

from safetyqc.formats.export.encoding import Snippet

OPENAI_TAGS = {
    "role_tag": "role",
    "content_tag": "content",
    "user_tag": "user",
    "assistant_tag": "assistant",
    "system_tag": "system",
}
"""How LLaMA-Factory finds roles in messages as OpenAI words them."""


def llamafactory(
    columns: Mapping[str, str], tags: Mapping[str, str] | None = None, *, ranking: bool = False
) -> Snippet:
    """Describe the files as LLaMA-Factory's data/README.md says: `dataset_dir: FOLDER`, `dataset: safety_train`."""

    def write(files: Mapping[str, str]) -> str:
        described = {"formatting": "sharegpt", "ranking": ranking, "columns": dict(columns), "tags": dict(tags or {})}
        kept = {key: value for key, value in described.items() if value}
        entries = {f"safety_{split}": {"file_name": name, **kept} for split, name in files.items()}
        return json.dumps(entries, indent=2) + "\n"

    return write


def axolotl(**fields: Any) -> Snippet:
    """The `datasets` part of an axolotl config, and `rl` where it is about pairs; paths are as seen from the folder."""

    def write(files: Mapping[str, str]) -> str:
        about = {"type": "chat_template", **fields}
        rl = {"rl": about.pop("rl")} if "rl" in about else {}
        parts = {("datasets" if split == "train" else "test_datasets"): name for split, name in files.items()}
        entries = {
            part: [{"path": name, "ds_type": _kind(name), "split": "train", **about}] for part, name in parts.items()
        }
        return _commented("part of an axolotl config; train from within this folder", {**rl, **entries})

    return write


def trl(command: str) -> Snippet:
    """The part of a TRL config that is about data: `trl COMMAND --config trl.yaml --model_name_or_path MODEL`."""

    def write(files: Mapping[str, str]) -> str:
        settings: dict[str, Any] = {"dataset_name": "data", "dataset_train_split": "train"}
        if "validation" in files:
            settings |= {"dataset_test_split": "validation", "eval_strategy": "epoch"}
        comment = f"from within this folder: trl {command} --config trl.yaml --model_name_or_path MODEL"
        return _commented(comment, settings)

    return write


def _kind(name: str) -> str:
    return "parquet" if name.endswith(".parquet") else "json"


def _commented(comment: str, settings: Mapping[str, Any]) -> str:
    return f"# {comment}\n" + yaml.safe_dump(dict(settings), sort_keys=False, allow_unicode=True)
