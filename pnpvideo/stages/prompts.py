"""What the results of a run are to show: texts or embeddings, checked, embedded and told apart."""

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image
from torch import Tensor

from pnpvideo.errors import InputError
from pnpvideo.models.prompt import PromptEmbeddings, concatenate
from pnpvideo.options.settings import check_negatives
from pnpvideo.stages.parts import Parts
from pnpvideo.storage import fingerprint
from pnpvideo.storage.job_folder import Identity


@dataclass(frozen=True, kw_only=True)
class Prompts:
    """What the results are to show, and what not: an embedding each for every result.

    identity: what tells them from others.
    """

    targets: PromptEmbeddings
    negatives: PromptEmbeddings
    identity: Identity

    def __len__(self) -> int:
        return len(self.targets)

    def one(self, index: int) -> "Prompts":
        """One of them by itself."""
        part = slice(index, index + 1)
        identity = self.identity | {"which of the prompts": str(index)}
        return Prompts(
            targets=self.targets[part], negatives=self.negatives[part], identity=identity
        )


def embed_prompts(
    parts: Parts,
    prompt: str | Sequence[str] | None,
    negative_prompt: str | Sequence[str] | None = None,
    *,
    embeds: PromptEmbeddings | None = None,
    negative_embeds: PromptEmbeddings | None = None,
    image: Image.Image | None = None,
    clip_skip: int = 0,
    weights: bool = False,
) -> Prompts:
    """Prompts and negative prompts, as texts or as embeddings: one negative for all, or each.

    No negative prompt is the empty one. image: what an IP-Adapter reads beside the prompts; beside
    negative ones it reads none. clip_skip: of the prompts, as in diffusers' pipelines.
    weights: read them in all texts (see `models.prompt_weights`).
    InputError where they do not fit together.
    """
    if parts.has_ip_adapter != (image is not None):
        raise InputError(
            "an IP-Adapter reads a picture; give one with ip_adapter_image"
            if image is None
            else "there is no IP-Adapter that reads ip_adapter_image; load one (ip_adapter)"
        )
    if (prompt is None) == (embeds is None):
        raise InputError("give either a prompt or prompt_embeds")
    if negative_prompt is None and negative_embeds is None:
        negative_prompt = ""
    check_negatives(_count(negative_prompt, negative_embeds), _count(prompt, embeds))
    targets = _embed(parts, prompt, embeds, clip_skip, weights=weights)
    if image is not None:
        targets = parts.beside_image(targets, image)
    negatives = _embed(parts, negative_prompt, negative_embeds, weights=weights)
    identity = {
        "prompt": _identity_of_texts(prompt, targets),
        "negative_prompt": _identity_of_texts(negative_prompt, negatives),
    }
    if targets.image is not None:
        identity["ip_adapter_image"] = fingerprint.of_tensors([("image", targets.image)])
    if len(negatives) == 1:
        negatives = concatenate([negatives] * len(targets))
    return Prompts(targets=targets, negatives=negatives, identity=identity)


def given_embeddings(hidden: Tensor | None, pooled: Tensor | None) -> PromptEmbeddings | None:
    return None if hidden is None else PromptEmbeddings(hidden=hidden, pooled=pooled)


def _embed(
    parts: Parts,
    texts: str | Sequence[str] | None,
    given: PromptEmbeddings | None,
    clip_skip: int = 0,
    *,
    weights: bool,
) -> PromptEmbeddings:
    if texts is not None:
        all_texts = [texts] if isinstance(texts, str) else list(texts)
        return parts.encode_texts(all_texts, clip_skip, weights=weights)
    assert given is not None
    if (given.pooled is None) != (parts.text_encoder_2 is None):
        raise InputError("SDXL models, and only they, want pooled embeddings beside the others")
    return parts.beside_image(given.to(parts._execution_device, parts.unet.dtype))


def _count(texts: str | Sequence[str] | None, embeddings: PromptEmbeddings | None) -> int:
    if texts is None:
        return 0 if embeddings is None else len(embeddings)
    return 1 if isinstance(texts, str) else len(texts)


def _identity_of_texts(texts: str | Sequence[str] | None, embeddings: PromptEmbeddings) -> str:
    """Of the texts, or of the embeddings where these were given in their place."""
    if texts is not None:
        return fingerprint.of_values(texts)
    named = {"hidden": embeddings.hidden, "pooled": embeddings.pooled}
    return fingerprint.of_tensors((k, v) for k, v in named.items() if v is not None)
