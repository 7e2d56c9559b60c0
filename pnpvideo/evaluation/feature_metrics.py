"""Measures of pictures and texts in the features of networks: pure functions of arrays.

Features are (n, channels), a row a frame; those of networks are in `networks`.
"""

from torch import Tensor
from torch.nn.functional import cosine_similarity, normalize

Each = Tensor


def self_similarity(keys: Tensor) -> Tensor:
    """Cosines (n, tokens, tokens) between all tokens' keys (n, tokens, channels).

    Keys are those of all heads of an attention layer, joined (Tumanyan et al. 2022, "Splicing ViT
    Features", arXiv 2201.00424, section 3.2).
    """
    unit = normalize(keys, dim=-1, eps=1e-8)
    return unit @ unit.transpose(1, 2)


def structure_distance(keys: Tensor, others: Tensor) -> Each:
    """Mean squared difference of two pictures' self-similarities (as above, equation 4; PIE-Bench,
    Ju et al. 2024: DINO ViT-B/8, keys of block 11, all 785 tokens), (n,) in [0, 4], 0 where alike.
    """
    return (self_similarity(keys) - self_similarity(others)).square().mean(dim=(1, 2))


def similarity(features: Tensor, others: Tensor) -> Each:
    """Cosine of features, (n,) in [-1, 1], 1 where alike: CLIP-I and DINO of pictures, CLIP-T of a
    picture and its text (Ruiz et al. 2023, "DreamBooth", section 4.1).
    """
    return cosine_similarity(features, others.expand_as(features), dim=-1)


def clip_score(features: Tensor, text: Tensor) -> Each:
    """100 times the cosine of pictures and their text, 0 where that is negative, (n,) in [0, 100]
    (Hessel et al. 2021, "CLIPScore", arXiv 2104.08718, with torchmetrics' weight of 100).
    """
    return 100 * similarity(features, text).clamp(min=0)


def direction(source: Tensor, result: Tensor, source_text: Tensor, text: Tensor) -> Each:
    """Cosine of the way from source to result with that from the source's text to the result's,
    (n,) in [-1, 1] (Gal et al. 2021, "StyleGAN-NADA", arXiv 2108.00946, section 4.1).
    """
    made = normalize(result, dim=-1) - normalize(source, dim=-1)
    wanted = normalize(text, dim=-1) - normalize(source_text, dim=-1)
    return cosine_similarity(made, wanted.expand_as(made), dim=-1)


def frame_consistency(features: Tensor) -> float:
    """Mean cosine of neighbouring frames, in [-1, 1]; not a number for one frame (Esser et al.
    2023, "Gen-1", arXiv 2302.03011, section 4.2).
    """
    if len(features) < 2:
        return float("nan")
    return float(cosine_similarity(features[1:], features[:-1], dim=-1).mean())


def simplified_fid(features: Tensor, mean: Tensor) -> float:
    """Squared distance of the mean of many pictures' features (n, channels) to a given mean; 0 is
    best, its unit that of the features (FlexIT's SFID: Couairon et al. 2022, arXiv 2203.04705,
    section 4.1; its CSFID is the mean of it over classes).
    """
    return float((features.mean(0) - mean).square().sum())


def classified(logits: Tensor, classes: Tensor) -> Tensor:
    """The most likely one (n,) of some classes (k,) by logits (n, all classes): FlexIT's accuracy
    asks for the benchmark's classes only (as above, section 4.1).
    """
    return classes[logits[:, classes].argmax(-1)]
