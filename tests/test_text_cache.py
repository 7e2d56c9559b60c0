"""Kept keys and values of texts change no number and are made once."""

import reference_pnp as reference
import torch

from pnpvideo.models.network import Batch
from pnpvideo.models.prompt import PromptEmbeddings
from pnpvideo.models.stable_diffusion.text_cache import text_cache
from pnpvideo.models.stable_diffusion.unet import UNet


def embeddings(count: int, seed: int) -> PromptEmbeddings:
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(count, 5, 12, generator=generator, dtype=torch.float64)
    return PromptEmbeddings(hidden=hidden)


def test_kept_texts_give_the_same_outputs_and_leave_no_trace() -> None:
    unet = reference.tiny_unet()
    network = UNet(unet, 4)
    three, other = embeddings(3, 0), embeddings(1, 1)
    # Parts of one tensor, other texts, other numbers of frames, again and again.
    calls = [(three, 2), (three.rest, 2), (three.first, 1), (other, 3), (three, 1), (three.rest, 2)]
    inputs = [
        torch.randn(len(texts) * frames, 4, 8, 8, dtype=torch.float64) for texts, frames in calls
    ]

    def outputs() -> list[torch.Tensor]:
        return [
            network.predict(Batch(latents=z, timestep=401, texts=texts))
            for z, (texts, _) in zip(inputs, calls, strict=True)
        ]

    with torch.no_grad():
        plain = outputs()
        seen: list[int] = []
        projection = unet.mid_block.attentions[0].transformer_blocks[0].attn2.to_k
        with text_cache(network):
            counting = projection.register_forward_pre_hook(
                lambda layer, given: seen.append(len(given[0]))
            )
            kept = outputs()
            counting.remove()
        after = outputs()
    for a, b, c in zip(plain, kept, after, strict=True):
        torch.testing.assert_close(b, a, rtol=1e-12, atol=1e-12)
        assert torch.equal(c, a)
    assert seen == [3, 2, 1, 1, 0, 0]
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in unet.modules())
