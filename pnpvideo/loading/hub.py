"""Finding and downloading of a model's files, on the hub or in a folder, and their errors."""

import math
import re
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import huggingface_hub
from safetensors import SafetensorError

from pnpvideo.errors import InputError, RunError
from pnpvideo.options.paths import expanded

_HUB_FILE = re.compile(
    r"(?:https?://)?(?:huggingface\.co|hf\.co)/(?P<repo_id>[^/]+/[^/]+)/(?:blob|resolve)/"
    r"(?P<revision>[^/]+)/(?P<filename>[^?#]+)(?:\?.*)?"
)
HUB_OPTIONS = ("cache_dir", "force_download", "local_files_only", "token")
"""diffusers' options for the hub."""
# The errors of diffusers, transformers and safetensors for files that they cannot use.
LOADING_ERRORS = (
    SafetensorError,
    OSError,
    ValueError,
    LookupError,
    ArithmeticError,
    TypeError,
    AttributeError,
    ImportError,
    RuntimeError,
)
_SILENCE = 10
"""Seconds for which a hub that did not answer is not asked again."""
_silent: dict[str, float] = {}
"""When a hub of an address did not answer."""
_SHARD = re.compile(r"-\d{5}-of-\d{5}")
_PREFERRED = ("fp16", "bf16")
"""Preferred variants of weights, the best first."""


def local_checkpoint(checkpoint: str | Path, options: dict[str, Any]) -> Path:
    """Return the path of a checkpoint, downloaded if it is a link to the hub.

    options: diffusers' options. Raise InputError if there is no such file.
    """
    path = expanded(checkpoint)
    if path.is_file():
        return path
    link = _HUB_FILE.fullmatch(str(checkpoint))
    if link is None:
        raise InputError(
            f"there is no checkpoint {checkpoint}; give a .safetensors file or a hub link to "
            "one, such as https://huggingface.co/owner/name/blob/main/model.safetensors"
        )
    hub_options = {k: v for k, v in reach_hub(options).items() if k in HUB_OPTIONS}
    try:
        return Path(huggingface_hub.hf_hub_download(**{**link.groupdict(), **hub_options}))
    except LOADING_ERRORS as error:
        if hub_options.get("local_files_only"):
            raise unreachable(str(checkpoint), "give a file") from None
        raise InputError(f"{checkpoint} cannot be loaded: {one_line(error)}") from None


def list_files(name: str, on_hub: dict[str, Any]) -> list[str]:
    """Return all paths within a model: in its folder, on the hub, or in the hub's cache."""
    folder = Path(name)
    if not folder.is_dir():
        if not on_hub.get("local_files_only"):
            options = {k: v for k, v in on_hub.items() if k in ("revision", "token")}
            return huggingface_hub.list_repo_files(name, **options)
        # The cache is seldom complete: some files were downloaded in one format only.
        options = {k: v for k, v in on_hub.items() if k in ("revision", "cache_dir")}
        cached = huggingface_hub.try_to_load_from_cache(name, "model_index.json", **options)
        folder = Path(str(cached)).parent
    return [path.relative_to(folder).as_posix() for path in folder.glob("*/*")]


def reach_hub(options: dict[str, Any]) -> dict[str, Any]:
    """Return the options, with local files only if the hub does not answer the first request.

    The hub's client would retry for half a minute before it raises an error. A hub that does not
    answer is asked again after a while, as a run asks for several parts of a model.
    """
    if options.get("local_files_only"):
        return options
    url, local = huggingface_hub.constants.ENDPOINT, {**options, "local_files_only": True}
    if time.monotonic() - _silent.get(url, -math.inf) < _SILENCE:
        return local
    try:
        huggingface_hub.get_session().head(url, timeout=10)
    except Exception:  # The HTTP library, and so its errors, depend on the hub's version.
        _silent[url] = time.monotonic()
        return local
    return options


def unreachable(what: str, remedy: str) -> RunError:
    """Return the error for something that only the hub has, if it does not answer."""
    return RunError(f"the hub cannot be reached for {what}; connect to the internet, or {remedy}")


def one_line(error: BaseException) -> str:
    """Return the first sentence of an error; the rest are hints for callers of the library."""
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    first = " ".join(text.split()).split(". ")[0].rstrip(".")
    return first[:300] or type(error).__name__


def find_variant(files: Iterable[str]) -> str | None:
    """Return the variant of most parts without plain weights; None if all have plain weights.

    files: all paths within the model. "unet/diffusion_pytorch_model.fp16.safetensors" is the
    variant fp16 of the part unet, and so are its shards "...fp16-00001-of-00002.safetensors" or
    "...-00001-of-00002.fp16.safetensors".
    """
    variants: dict[str, set[str]] = {}
    for path in files:
        part, _, name = path.rpartition("/")
        if part and "/" not in part and name.endswith(".safetensors"):
            middle = _SHARD.sub("", name).removesuffix(".safetensors").partition(".")[2]
            variants.setdefault(part, set()).add(middle)
    counts = Counter(name for names in variants.values() if "" not in names for name in names)
    order = {name: rank for rank, name in enumerate(_PREFERRED)}
    ranked = sorted(counts, key=lambda name: (-counts[name], order.get(name, len(order)), name))
    return ranked[0] if ranked else None
