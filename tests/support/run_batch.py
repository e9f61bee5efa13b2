"""Stands in for `vllm run-batch`: reads a file of requests, answers each from a server, writes a line for each.

Like the real one it opens the output anew, writes in the order of the input, and knows chat completions alone.
"""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any


def run_batch(source: Path, target: Path, server: str, limit: int | None = None) -> int:
    """Answer the lines of a file, or the first of them; returns how many."""
    lines = [json.loads(line) for line in source.read_text(encoding="utf-8").split("\n") if line.strip()][:limit]
    with target.open("w", encoding="utf-8") as out:
        for number, line in enumerate(lines):
            out.write(json.dumps(_answered(line, number, server)) + "\n")
            out.flush()
    return len(lines)


def _answered(line: dict[str, Any], number: int, server: str) -> dict[str, Any]:
    name = {"id": f"vllm-{number}", "custom_id": line["custom_id"]}
    if line["url"] != "/v1/chat/completions":
        return {**name, "response": None, "error": f"URL {line['url']} was used: not supported"}
    asked = urllib.request.Request(
        f"{server}/chat/completions",
        json.dumps(line["body"], ensure_ascii=False, separators=(",", ":")).encode(),
        {"Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(asked) as response:
            status, body = response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return {**name, "response": {"status_code": error.code, "request_id": "r", "body": None}, "error": str(error)}
    return {**name, "response": {"status_code": status, "request_id": "r", "body": body}, "error": None}
