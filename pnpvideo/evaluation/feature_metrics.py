"""Measures of pictures and texts by features of networks: pure functions of arrays.

Features are (n, channels), one row for each frame; `networks` computes them.
"""

from torch import Tensor
from torch.nn.functional import cosine_similarity, normalize

FrameValues = Tensor
"""(n,): one value for each frame."""


def self_similarity(keys: Tensor) -> Tensor:
    """Return the cosines (n, tokens, tokens) between all tokens' keys (n, tokens, channels).

    Keys are those of all heads of an attention layer, concatenated (Tumanyan et al. 2022,
    "Splicing ViT Features", arXiv 2201.00424, section 3.2).
    """
    unit = normalize(keys, dim=-1, eps=1e-8)
    return unit @ unit.transpose(1, 2)


def structure_distance(keys: Tensor, others: Tensor) -> FrameValues:
    """Return the mean squared difference of self-similarities, (n,) in [0, 4], 0 if equal.

    Tumanyan et al. 2022, equation 4; PIE-Bench (Ju et al. 2024) takes DINO ViT-B/8, the keys of
    block 11 and all 785 tokens.
    """
    return (self_similarity(keys) - self_similarity(others)).square().mean(dim=(1, 2))


def similarity(features: Tensor, others: Tensor) -> FrameValues:
    """Return the cosine of features, (n,) in [-1, 1], 1 if equal.

    CLIP-I and DINO for pictures, CLIP-T for a picture and its text (Ruiz et al. 2023,
    "DreamBooth", section 4.1).
    """
    return cosine_similarity(features, others.expand_as(features), dim=-1)


def clip_score(features: Tensor, text: Tensor) -> FrameValues:
    """Return 100 times the cosine of pictures and their text, at least 0, (n,) in [0, 100].

    Hessel et al. 2021, "CLIPScore", arXiv 2104.08718, with torchmetrics' weight of 100.
    """
    return 100 * similarity(features, text).clamp(min=0)


def direction(source: Tensor, result: Tensor, source_text: Tensor, text: Tensor) -> FrameValues:
    """Return the cosine of the change from source to result and of their texts, (n,) in [-1, 1].

    Gal et al. 2021, "StyleGAN-NADA", arXiv 2108.00946, section 4.1.
    """
    change = normalize(result, dim=-1) - normalize(source, dim=-1)
    text_change = normalize(text, dim=-1) - normalize(source_text, dim=-1)
    return cosine_similarity(change, text_change.expand_as(change), dim=-1)


def frame_consistency(features: Tensor) -> float:
    """Return the mean cosine of neighbouring frames, in [-1, 1]; NaN for one frame.

    Esser et al. 2023, "Gen-1", arXiv 2302.03011, section 4.2.
    """
    if len(features) < 2:
        return float("nan")
    return float(cosine_similarity(features[1:], features[:-1], dim=-1).mean())


def simplified_fid(features: Tensor, mean: Tensor) -> float:
    """Return the squared distance of the features' mean (n, channels) to a given mean; 0 is best.

    FlexIT's SFID (Couairon et al. 2022, arXiv 2203.04705, section 4.1), in the features' squared
    units; CSFID is its mean over classes.
    """
    return float((features.mean(0) - mean).square().sum())


def classify(logits: Tensor, classes: Tensor) -> Tensor:
    """Return the most likely (n,) of some classes (k,) by logits (n, all classes).

    FlexIT's accuracy considers the benchmark's classes only (Couairon et al. 2022, section 4.1).
    """
    return classes[logits[:, classes].argmax(-1)]
