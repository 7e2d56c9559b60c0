"""Saves equal branches: up to the first layer that sees a text, those of equal latents are one."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor

from pnpvideo.models.network import Network
from pnpvideo.sampling.passes import InjectedBatch


@contextmanager
def skip_alike(network: Network) -> Iterator[None]:
    """Within, the layers before the first text see one of the branches that are alike there."""

    def first_of_each(tensor: Tensor) -> Tensor:
        batch = network.batch
        if not isinstance(batch, InjectedBatch) or batch.alike == 1:
            return tensor
        own, rest = tensor[: batch.source_rows], tensor[batch.source_rows :]
        first = rest.view(-1, batch.alike, batch.frame_count, *rest.shape[1:])[:, 0]
        return torch.cat([own, first.flatten(0, 1)])

    def repeat(output: Tensor) -> Tensor:
        batch = network.batch
        if not isinstance(batch, InjectedBatch) or batch.alike == 1:
            return output
        own, rest = output[: batch.source_rows], output[batch.source_rows :]
        rest = rest.view(-1, batch.frame_count, *rest.shape[1:])
        return torch.cat([own, rest.repeat_interleave(batch.alike, dim=0).flatten(0, 1)])

    with ExitStack() as stack:
        for layer in network.before_text:
            stack.enter_context(layer.changed(first_of_each, repeat))
        yield
