"""The models that are on this machine: in the hub's cache, and in folders."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import huggingface_hub
from huggingface_hub.errors import CacheNotFound

from pnpvideo.catalogue.pipelines import FLOW, OTHERS, text_pipeline
from pnpvideo.errors import InputError
from pnpvideo.files.read_text import parse_json, read_text

_WITHOUT_WEIGHTS = ("scheduler", "tokenizer")
"""The beginnings of the names of parts without weights."""
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
    kind = str(index.get("_class_name"))
    network = "transformer" if text_pipeline(kind) in FLOW else "unet"
    if kind in OTHERS:
        return f"a {kind}: {OTHERS[kind]}, which cannot be used here"
    if {network, "vae", "text_encoder", "tokenizer", "scheduler"} - parts.keys():
        return f"a {kind}, which cannot be used here"
    needed = [name for name, one in parts.items() if one is not None and name not in _NOT_NEEDED]
    lacking = [name for name in needed if not any(_files(folder, name))]
    if not lacking:
        return "complete"
    only_code = all(any((folder / name).glob("*.bin")) for name in lacking)
    reason = ", whose files can hold code and are not read" if only_code else ""
    return f"lacks the weights of {', '.join(lacking)}{reason}"


def _files(folder: Path, part: str) -> Iterator[Path]:
    """Yield the files of a part that it cannot do without; none if it is not complete."""
    kind = "*" if part.startswith(_WITHOUT_WEIGHTS) else "*.safetensors"
    if _lacks_shards(folder / part):
        return iter(())
    return (path for path in (folder / part).glob(kind) if path.exists() and path.stat().st_size)


def _lacks_shards(part: Path) -> bool:
    """Return whether weights are in several files, of which some are missing."""
    for path in part.glob("*.safetensors.index.json"):
        try:
            index: Any = parse_json(read_text(path), path.name)
            return any(not (part / name).exists() for name in set(index["weight_map"].values()))
        except (InputError, AttributeError, KeyError, TypeError):
            return True
    return False
