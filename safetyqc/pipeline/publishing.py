"""A dataset folder, as `export --folder` wrote it -> a dataset on the Hugging Face Hub.

Only files that the folder's manifest names go up, and only as they were exported: data that was changed since would
belie its card. A dataset is private unless it is asked to be public, since its requests are harmful by nature. It needs
`huggingface_hub`, which also knows the token; nothing here prints one.
"""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from safetyqc.errors import InputError, UserError
from safetyqc.formats.export.manifest import MANIFEST, Manifest
from safetyqc.llm.secrets import redact
from safetyqc.text import counted, shorten

_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")


def push_folder(folder: Path, repository: str, *, public: bool = False) -> str:
    """Upload a dataset folder as one commit; returns its address.

    Args:
        repository: OWNER/NAME; made where it is not there.
        public: whether anybody may see it; one that is public already is refused without.

    Raises:
        InputError: no folder that an export wrote, or a file of it that was changed or is gone.
        UserError: `huggingface_hub` is not installed, or the Hub refuses.
    """
    if not _REPOSITORY.fullmatch(repository):
        raise UserError(f"{repository!r} is not OWNER/NAME", fix="for example my-name/my-safety-set")
    files = check_folder(folder)
    try:
        import huggingface_hub
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalTokenNotFoundError
    except ImportError as error:
        fix = "pip install huggingface_hub, then `hf auth login`"
        raise UserError("the Hub is reached through huggingface_hub, which is not installed", fix=fix) from error
    token = huggingface_hub.get_token()
    hub = huggingface_hub.HfApi(endpoint=os.environ.get("HF_ENDPOINT"), token=token)
    failures: tuple[type[Exception], ...] = (HfHubHTTPError, HFValidationError, LocalTokenNotFoundError)
    try:
        return _upload(hub, folder, repository, files, public=public)
    except failures + _unreachable() as error:
        raise UserError(_told(error, token), where=repository, fix=_fix(error, has_token=bool(token))) from error


def check_folder(folder: Path) -> list[str]:
    """The files of a dataset folder by their names in it, each as it was exported.

    Raises:
        InputError: there is none, or what it names is not there, lies elsewhere or was changed.
    """
    manifest_file = folder / MANIFEST
    fix = f"write it with `safetyqc export --folder {folder}`"
    try:
        manifest = Manifest.model_validate_json(manifest_file.read_bytes())
    except OSError as error:
        raise InputError("is no dataset folder: it has no manifest", path=folder, fix=fix) from error
    except ValidationError as error:
        raise InputError("is no manifest of an export", path=manifest_file, fix=fix) from error
    hashes = {file.path: file.sha256 for file in manifest.files} | dict.fromkeys(manifest.beside)
    for name, sha256 in hashes.items():
        file = folder / name
        if Path(name).is_absolute() or not file.resolve().is_relative_to(folder.resolve()):
            raise InputError(f"names {name!r}, which lies elsewhere", path=manifest_file, fix=fix)
        if not file.is_file():
            raise InputError("was exported and is gone", path=file, fix=f"{fix} --force")
        if sha256 and hashlib.sha256(file.read_bytes()).hexdigest() != sha256:
            raise InputError("was changed after it was exported", path=file, fix=f"{fix} --force")
    return [*hashes, MANIFEST]


def _upload(hub: Any, folder: Path, repository: str, files: list[str], *, public: bool) -> str:
    hub.create_repo(repository, repo_type="dataset", private=not public, exist_ok=True)
    if not public and not hub.dataset_info(repository).private:
        fix = "give --public if everybody may see it, or another name"
        raise UserError("is there already, and public", where=repository, fix=fix)
    commit = hub.upload_folder(
        folder_path=str(folder),
        repo_id=repository,
        repo_type="dataset",
        allow_patterns=[_escaped(name) for name in files],
        commit_message=f"{counted(len(files), 'file')} exported by safetyqc",
    )
    return str(commit.commit_url)


def _unreachable() -> tuple[type[Exception], ...]:
    """What huggingface_hub lets through where the Hub cannot be reached: 0.x an OSError, 1.x an error of httpx."""
    try:
        from httpx import HTTPError
    except ImportError:
        return (OSError,)
    return OSError, HTTPError


def _escaped(name: str) -> str:
    """A name as the pattern that matches it alone."""
    return re.sub(r"[*?\[]", lambda found: f"[{found[0]}]", name)


def _told(error: Exception, token: str | None) -> str:
    said = getattr(error, "server_message", None) or str(error).strip().splitlines()[0]
    return f"the Hub: {redact(shorten(said, 300), token)}"


def _fix(error: Exception, *, has_token: bool) -> str:
    status = getattr(getattr(error, "response", None), "status_code", None)
    if not has_token:
        return "no token was found: `hf auth login`, or set HF_TOKEN"
    if status in (401, 403):
        return "the token may not write there: take one with write access to it"
    return "see that the Hub can be reached, and try again: what is there already is not uploaded twice"
