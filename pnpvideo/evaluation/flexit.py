"""FlexIT's measures (Couairon et al. 2022, arXiv 2203.04705, section 4.1, and its eval.py).

Pictures have 256 pixels a side.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from pnpvideo.clips.clip import Frames
from pnpvideo.errors import InputError
from pnpvideo.evaluation import pixel_metrics
from pnpvideo.evaluation.columns import Column
from pnpvideo.evaluation.feature_metrics import classify, simplified_fid
from pnpvideo.evaluation.networks import Networks
from pnpvideo.evaluation.pixel_metrics import FrameValues
from pnpvideo.evaluation.prepare import resized_and_cropped
from pnpvideo.evaluation.samples import ItemFrames

SIDE = 256


def _at_side(frames: Frames) -> Frames:
    return resized_and_cropped(frames, SIDE, SIDE, Image.Resampling.BILINEAR)


def _lpips(sample: ItemFrames, networks: Networks) -> FrameValues:
    pictures = map(_at_side, (sample.result, sample.source))
    return np.asarray(networks.lpips("lpips-alex", *pictures).double().numpy())


def _l1(sample: ItemFrames, networks: Networks) -> FrameValues:
    return pixel_metrics.l1(*map(_at_side, (sample.result, sample.source)))


def accuracy_column(texts: Iterable[str]) -> Column:
    """Return the column of the classifier's accuracy over the classes in a benchmark's texts."""
    texts = tuple(texts)

    def measure(sample: ItemFrames, networks: Networks) -> FrameValues:
        names = networks.labels()
        class_numbers = {class_of(text, names) for text in texts} - {None}
        expected = class_of(sample.item.label, names)
        if expected is None:
            return np.full(len(sample.result), np.nan)
        classes = torch.tensor(sorted(number for number in class_numbers if number is not None))
        predicted = classify(networks.logits(sample.result), classes)
        return np.asarray((predicted == expected).double().numpy())

    return Column(
        name="accuracy",
        title="accuracy",
        measure=measure,
        best="high",
        factor=100,
        unit="%",
        roles=("classifier",),
    )


def class_of(text: str, names: Mapping[int, str]) -> int | None:
    """Return the class with the longest name in a text: "tabby, tabby cat" for "a tabby cat"."""
    words = f" {' '.join(re.findall(r'[a-z0-9]+', text.lower()))} "
    matches: list[tuple[int, int]] = []
    for number, label in names.items():
        for name in label.split(","):
            plain = " ".join(re.findall(r"[a-z0-9]+", name.lower()))
            if plain and f" {plain} " in words:
                matches.append((len(plain), -int(number)))
    return -max(matches)[1] if matches else None


COLUMNS = (
    Column(
        name="lpips_source",
        title="LPIPS",
        measure=_lpips,
        best="low",
        factor=100,
        unit="x10^2",
        roles=("lpips-alex",),
    ),
    Column(name="l1_source", title="L1", measure=_l1, best="low"),
)


def read_statistics(path: Path) -> dict[str, Tensor]:
    """Read the mean features of true pictures: `mean` for all, and one by the name of each class.

    Raise InputError if the file cannot be read or has no `mean`.
    """
    try:
        statistics: dict[str, Tensor] = load_file(path)
    except (SafetensorError, OSError) as error:
        raise InputError(f"the statistics {path} cannot be read: {error}") from None
    if "mean" not in statistics:
        raise InputError(f"the statistics {path} have no tensor 'mean'")
    return statistics


def fid_scores(
    features: Mapping[str, Tensor], labels: Mapping[str, str], statistics: Mapping[str, Tensor]
) -> dict[str, float]:
    """Return SFID of all pictures, and CSFID: its mean over the classes that have statistics.

    features: (channels,) by item; labels: the class's text by item.
    """
    all_features = torch.stack(list(features.values()))
    scores = {"sfid": simplified_fid(all_features, statistics["mean"])}
    by_class = {name for name in labels.values() if name in statistics}
    class_scores = [
        simplified_fid(
            torch.stack([value for item, value in features.items() if labels[item] == name]),
            statistics[name],
        )
        for name in by_class
    ]
    if class_scores:
        scores["csfid"] = sum(class_scores) / len(class_scores)
    return scores
