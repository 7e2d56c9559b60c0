"""Run the layers before the first cross-attention once for all branches whose latents are equal."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor

from pnpvideo.models.network import Network, is_unet
from pnpvideo.sampling.passes import InjectedBatch
from pnpvideo.sampling.rows import by_branch, rows_of


@contextmanager
def skip_alike(network: Network) -> Iterator[None]:
    """Run layers before the first cross-attention on one of the branches with equal latents.

    This lasts as long as the context. A network that is not a UNet is left unchanged.
    """

    def first_of_each(tensor: Tensor) -> Tensor:
        batch = network.batch
        if not isinstance(batch, InjectedBatch) or batch.branches_with_equal_latents == 1:
            return tensor
        own, rest = tensor[: batch.source_rows], tensor[batch.source_rows :]
        equal = by_branch(rest, batch.piece_count)
        return torch.cat([own, rows_of(equal[:: batch.branches_with_equal_latents])])

    def repeat(output: Tensor) -> Tensor:
        batch = network.batch
        if not isinstance(batch, InjectedBatch) or batch.branches_with_equal_latents == 1:
            return output
        own, rest = output[: batch.source_rows], output[batch.source_rows :]
        firsts = by_branch(rest, batch.piece_count)
        equal = firsts.repeat_interleave(batch.branches_with_equal_latents, dim=0)
        return torch.cat([own, rows_of(equal)])

    with ExitStack() as stack:
        for layer in network.layers_before_text if is_unet(network) else ():
            stack.enter_context(layer.changed(first_of_each, repeat))
        yield
