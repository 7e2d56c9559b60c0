"""The models that are on this machine: in the hub's cache, and in folders."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import huggingface_hub
from huggingface_hub.errors import CacheNotFound

from pnpvideo.errors import InputError
from pnpvideo.files.read_text import parse_json, read_text

_WITHOUT_WEIGHTS = ("scheduler", "tokenizer", "tokenizer_2")
_NOT_NEEDED = ("safety_checker", "feature_extractor", "image_encoder")


@dataclass(frozen=True, kw_only=True)
class LocalModel:
    """A model on this machine. name: as `--model` takes it. state: "complete", or what it lacks."""

    name: str
    state: str
    size: int


def cached_models(cache: Path | None = None) -> Iterator[LocalModel]:
    """Yield the diffusers models in the hub's cache, by their ids. cache: None: the usual one."""
    try:
        repos = huggingface_hub.scan_cache_dir(cache).repos
    except CacheNotFound:
        return
    for repo in sorted(repos, key=lambda repo: repo.repo_id):
        for revision in sorted(repo.revisions, key=lambda one: one.last_modified, reverse=True):
            if (revision.snapshot_path / "model_index.json").exists():
                state = folder_state(revision.snapshot_path)
                yield LocalModel(name=repo.repo_id, state=state, size=repo.size_on_disk)
                break


def models_in(folder: Path) -> Iterator[LocalModel]:
    """Yield the diffusers models that are folders of a folder."""
    for path in sorted(folder.iterdir()):
        if (path / "model_index.json").is_file():
            size = sum(one.stat().st_size for one in path.rglob("*") if one.is_file())
            yield LocalModel(name=f"./{path.name}", state=folder_state(path), size=size)


def folder_state(folder: Path) -> str:
    """Return "complete", or what a diffusers folder lacks to be used."""
    try:
        index: Any = parse_json(read_text(folder / "model_index.json"), "model_index.json")
        parts = {part: entry[1] for part, entry in index.items() if isinstance(entry, list)}
    except (InputError, AttributeError, IndexError):
        return "its model_index.json is damaged"
    if {"unet", "vae", "text_encoder", "tokenizer", "scheduler"} - parts.keys():
        return f"a {index.get('_class_name')}, which is not Stable Diffusion"
    needed = [name for name, kind in parts.items() if kind is not None and name not in _NOT_NEEDED]
    lacking = [name for name in needed if not any(_files(folder, name))]
    if not lacking:
        return "complete"
    only_code = all(any((folder / name).glob("*.bin")) for name in lacking)
    reason = ", whose files can hold code and are not read" if only_code else ""
    return f"lacks the weights of {', '.join(lacking)}{reason}"


def _files(folder: Path, part: str) -> Iterator[Path]:
    """Yield the files of a part that it cannot do without; none if it is not complete."""
    kind = "*" if part in _WITHOUT_WEIGHTS else "*.safetensors"
    return (path for path in (folder / part).glob(kind) if path.exists() and path.stat().st_size)
