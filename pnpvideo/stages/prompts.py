"""Embeds what the results of an edit show, given as texts or as embeddings."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from pnpvideo.errors import InputError
from pnpvideo.models.model import Model
from pnpvideo.models.prompt import PromptEmbeddings, concatenate
from pnpvideo.options.method import PnPOptions
from pnpvideo.options.settings import check_negatives
from pnpvideo.storage import fingerprint
from pnpvideo.storage.job_folder import Identity

_log = logging.getLogger(__name__)

Texts = str | Sequence[str] | PromptEmbeddings
"""One text, several, or embeddings of one or several."""


@dataclass(frozen=True, kw_only=True)
class Prompts:
    """The embeddings of the prompt and the negative prompt of every result.

    identity: distinguishes them from others.
    """

    targets: PromptEmbeddings
    negatives: PromptEmbeddings
    identity: Identity

    def __len__(self) -> int:
        return len(self.targets)

    def one(self, index: int) -> "Prompts":
        """Return one of them by itself."""
        part = slice(index, index + 1)
        identity = self.identity | {"which of the prompts": str(index)}
        return Prompts(
            targets=self.targets[part], negatives=self.negatives[part], identity=identity
        )


def embed_prompts(
    model: Model,
    prompt: Texts,
    negative_prompt: Texts | None = None,
    *,
    picture: Image.Image | None = None,
    options: PnPOptions,
) -> Prompts:
    """Embed prompts and negative prompts: one negative prompt for all, or one for each.

    No negative prompt is the empty one. picture: what an IP-Adapter reads beside the prompts;
    beside negative ones it reads none. options.clip_skip applies to the prompts alone, as in
    diffusers' pipelines; options.prompt_weights to all texts.
    InputError if they do not fit together.
    """
    if model.reads_pictures != (picture is not None):
        raise InputError(
            "an IP-Adapter needs a picture; give one with ip_adapter_image"
            if picture is None
            else "there is no IP-Adapter that reads ip_adapter_image; load one (ip_adapter)"
        )
    negative_prompt = "" if negative_prompt is None else negative_prompt
    check_negatives(_count(negative_prompt), _count(prompt))
    targets = _embed(model, prompt, options.clip_skip, weights=options.prompt_weights)
    if picture is not None:
        targets = model.with_image(targets, picture)
    is_given = isinstance(negative_prompt, PromptEmbeddings) or any(negative_prompt)
    if targets.guidance is not None and is_given:
        _log.warning(
            "negative_prompt has no effect with this model, whose guidance is built in; leave it "
            "out"
        )
    negatives = _embed(model, negative_prompt, 0, weights=options.prompt_weights)
    identity = {
        "prompt": _identity(prompt, targets),
        "negative_prompt": _identity(negative_prompt, negatives),
    }
    if targets.image is not None:
        identity["ip_adapter_image"] = fingerprint.of_tensors([("image", targets.image)])
    if len(negatives) == 1:
        negatives = concatenate([negatives] * len(targets))
    return Prompts(targets=targets, negatives=negatives, identity=identity)


def embed_source_prompt(model: Model, prompt: str, options: PnPOptions) -> PromptEmbeddings:
    """Embed the inversion prompt.

    clip_skip is not applied to an empty prompt, as for negative prompts.
    """
    skip = options.clip_skip if prompt else 0
    return model.encode_texts([prompt], skip, weights=options.prompt_weights)


def _embed(model: Model, texts: Texts, clip_skip: int, *, weights: bool) -> PromptEmbeddings:
    if isinstance(texts, PromptEmbeddings):
        return model.check_embeddings(texts)
    all_texts = [texts] if isinstance(texts, str) else list(texts)
    return model.encode_texts(all_texts, clip_skip, weights=weights)


def _count(texts: Texts) -> int:
    return 1 if isinstance(texts, str) else len(texts)


def _identity(texts: Texts, embeddings: PromptEmbeddings) -> str:
    """Return the fingerprint of the texts, or of the embeddings given in their place."""
    if not isinstance(texts, PromptEmbeddings):
        return fingerprint.of_values(texts)
    named = {"hidden": embeddings.hidden, "pooled": embeddings.pooled}
    return fingerprint.of_tensors((k, v) for k, v in named.items() if v is not None)
