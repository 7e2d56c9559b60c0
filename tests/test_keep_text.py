"""Kept keys and values of texts change no number and are made once."""

import reference_pnp as reference
import torch

from pnpvideo.models.network import Network
from pnpvideo.models.prompt import PromptEmbeddings


def embeddings(count: int, seed: int) -> PromptEmbeddings:
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(count, 5, 12, generator=generator, dtype=torch.float64)
    return PromptEmbeddings(hidden=hidden)


def test_kept_texts_give_the_same_outputs_and_leave_no_trace() -> None:
    unet = reference.tiny_unet()
    network = Network(unet=unet, image_size=(32, 32))
    three, other = embeddings(3, 0), embeddings(1, 1)
    # Parts of one tensor, other texts, other numbers of frames, again and again.
    calls = [(three, 2), (three[1:], 2), (three[:1], 1), (other, 3), (three, 1), (three[1:], 2)]
    inputs = [
        torch.randn(len(texts) * frames, 4, 8, 8, dtype=torch.float64) for texts, frames in calls
    ]

    def outputs() -> list[torch.Tensor]:
        return [
            network.predict(z, 401, texts, frames)
            for z, (texts, frames) in zip(inputs, calls, strict=True)
        ]

    with torch.no_grad():
        plain = outputs()
        seen: list[int] = []
        projection = unet.mid_block.attentions[0].transformer_blocks[0].attn2.to_k
        with network.keeping_text():
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
