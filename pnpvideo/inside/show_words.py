"""Show where the words of texts attend to in a source."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from pnpvideo.clips.clip import Frames
from pnpvideo.inside.draw import over
from pnpvideo.inside.subject import Strip, Subject
from pnpvideo.models.prompt import PromptEmbeddings
from pnpvideo.pixels.cut_out_maps import STANDS_OUT
from pnpvideo.sampling.find_named import attention_maps
from pnpvideo.stages.edit import OpenEdit


def show_words(subject: Subject, texts: Sequence[str]) -> list[Strip]:
    """Show the cross-attention of each word over the frames (see `attention_maps`).

    A word's colours range from its least to its most attended place in all frames; a word that
    stands out nowhere is dim everywhere.
    """
    frames = [subject.frames(source) for source in subject.sources]
    strips = []
    for text in texts:
        embedded = subject.model.encode_texts([text], subject.options.clip_skip)
        for word, tokens in subject.model.words_in(text):
            maps = [_map(subject, opened, embedded, tokens) for opened in subject.edits]
            low = min(float(one.min()) for one in maps)
            top = max(STANDS_OUT, *(float(one.max()) for one in maps))
            heat = [(one - low) / (top - low) for one in maps]
            pictures = tuple(_heated(some, one) for some, one in zip(frames, heat, strict=True))
            strips.append(Strip(row=text, column=word, pictures=pictures))
    return strips


def _map(
    subject: Subject, opened: OpenEdit, text: PromptEmbeddings, tokens: Sequence[int]
) -> Tensor:
    trajectory, size = opened.source.trajectory, subject.batch_size
    with subject.network_of(opened) as network:
        return torch.cat(list(attention_maps(network, trajectory, text, tokens, batch_size=size)))


def _heated(frames: Frames, maps: Tensor) -> Frames:
    pairs = zip(frames, maps.numpy(), strict=True)
    return np.stack([over(frame, one) for frame, one in pairs])
