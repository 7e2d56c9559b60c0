"""FlexIT's measures (Couairon et al. 2022, arXiv 2203.04705, section 4.1, and its eval.py), of
pictures of 256 pixels a side.
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
from pnpvideo.evaluation.feature_metrics import classified, simplified_fid
from pnpvideo.evaluation.networks import Networks
from pnpvideo.evaluation.pixel_metrics import Each
from pnpvideo.evaluation.prepare import cropped
from pnpvideo.evaluation.samples import Sample

SIDE = 256


def _at_side(frames: Frames) -> Frames:
    return cropped(frames, SIDE, SIDE, Image.Resampling.BILINEAR)


def _lpips(sample: Sample, networks: Networks) -> Each:
    pictures = map(_at_side, (sample.result, sample.source))
    return np.asarray(networks.lpips("lpips-alex", *pictures).double().numpy())


def _l1(sample: Sample, networks: Networks) -> Each:
    return pixel_metrics.l1(*map(_at_side, (sample.result, sample.source)))


def accuracy_column(texts: Iterable[str]) -> Column:
    """The column of the classifier's accuracy over the classes that a benchmark's texts name."""
    texts = tuple(texts)

    def measure(sample: Sample, networks: Networks) -> Each:
        names = networks.labels()
        found = {class_of(text, names) for text in texts} - {None}
        wanted = class_of(sample.item.label, names)
        if wanted is None:
            return np.full(len(sample.result), np.nan)
        classes = torch.tensor(sorted(number for number in found if number is not None))
        seen = classified(networks.logits(sample.result), classes)
        return np.asarray((seen == wanted).double().numpy())

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
    """The class whose longest name a text says: "tabby, tabby cat" is said by "a tabby cat"."""
    words = f" {' '.join(re.findall(r'[a-z0-9]+', text.lower()))} "
    said: list[tuple[int, int]] = []
    for number, label in names.items():
        for name in label.split(","):
            plain = " ".join(re.findall(r"[a-z0-9]+", name.lower()))
            if plain and f" {plain} " in words:
                said.append((len(plain), -int(number)))
    return -max(said)[1] if said else None


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
    """Means of the features of the true pictures: `mean` of all, and one by the name of each class.

    InputError where the file is none.
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
    """SFID of all pictures, and CSFID: the mean of those of each class that has statistics.

    features: (channels,) by item; labels: the class's text by item.
    """
    everything = torch.stack(list(features.values()))
    scores = {"sfid": simplified_fid(everything, statistics["mean"])}
    by_class = {name for name in labels.values() if name in statistics}
    each = [
        simplified_fid(
            torch.stack([value for item, value in features.items() if labels[item] == name]),
            statistics[name],
        )
        for name in by_class
    ]
    if each:
        scores["csfid"] = sum(each) / len(each)
    return scores
