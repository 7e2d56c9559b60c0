"""Which variant of its weights, such as half precision, a diffusers model has to be loaded in."""

import re
from collections import Counter
from collections.abc import Iterable

_SHARD = re.compile(r"-\d{5}-of-\d{5}")
_PREFERRED = ("fp16", "bf16")


def variant_of(files: Iterable[str]) -> str | None:
    """The variant that most parts of a model have alone; None where they have plain weights.

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
    found = Counter(name for names in variants.values() if "" not in names for name in names)
    order = {name: place for place, name in enumerate(_PREFERRED)}
    ranked = sorted(found, key=lambda name: (-found[name], order.get(name, len(order)), name))
    return ranked[0] if ranked else None
