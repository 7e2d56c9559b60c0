"""A ControlNet beside the method: parity with plain loops, and each frame's own picture."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from models import random_controlnet
from test_denoise import SIZE, STEPS, Run, assert_close
from torch import Tensor

from pnpvideo.models.batches import Batches
from pnpvideo.models.model import Control
from pnpvideo.models.network import Batch
from pnpvideo.models.stable_diffusion.controlnet import ControlledUNet
from pnpvideo.models.stable_diffusion.text_cache import text_cache
from pnpvideo.models.stable_diffusion.unet import UNet
from pnpvideo.sampling.find_named import attention_maps
from pnpvideo.sampling.invert import reconstruct_latents


def pictures_of(numbers: Sequence[int]) -> np.ndarray:
    """uint8 (n, height, width, 3), each unlike the others."""
    shape = (SIZE[1], SIZE[0], 3)
    each = [np.random.default_rng(number).integers(0, 256, shape, np.uint8) for number in numbers]
    return np.stack(each)


class ControlledRun(Run):
    """A run whose network has a random ControlNet beside it, which rests after so many steps."""

    def __init__(self, scale: float = 1.0, controlled: int = STEPS, **how: Any) -> None:
        self.scale, self.controlled = scale, controlled
        super().__init__(**how)

    def make_network(self) -> UNet:
        self.controlnet = random_controlnet(self.unet)
        inactive_at_or_below = (*self.schedule.timesteps, -1.0)[self.controlled]
        control = Control(
            pictures=pictures_of, scale=self.scale, inactive_at_or_below=inactive_at_or_below
        )
        return ControlledUNet(self.unet, 8, self.controlnet, control)

    def reference_of(self, frame: int, **settings: Any) -> list[Tensor]:
        """The same of one frame, by plain calls: one frame and one text at a time."""
        picture = torch.from_numpy(pictures_of([frame])).permute(0, 3, 1, 2).double() / 255

        def control(z: Tensor, t: int, text: Any) -> Any:
            if t not in self.schedule.timesteps[: self.controlled]:
                return None
            hidden, added = text if isinstance(text, tuple) else (text, None)
            with torch.no_grad():
                result = self.controlnet(z, t, hidden, picture, self.scale, added_cond_kwargs=added)
            return result.down_block_res_samples, result.mid_block_res_sample

        return self.reference_steps(frame, control=control, **settings)


@pytest.mark.parametrize(
    ("how", "controlled", "scale", "prompts"),
    [
        ({}, STEPS, 1.0, 2),
        ({"prediction": "v_prediction"}, STEPS, 0.6, 1),
        ({"sdxl": True}, STEPS, 1.0, 1),
        ({}, 3, 1.5, 1),
        ({}, 0, 1.0, 1),
    ],
)
def test_every_step_equals_the_reference(
    how: dict[str, Any], controlled: int, scale: float, prompts: int
) -> None:
    run = ControlledRun(frames=2, controlled=controlled, scale=scale, **how)
    ours = run.sample(prompts=prompts, guidance_scale=3.0)
    for prompt in range(prompts):
        theirs = run.reference_of(1, prompt=prompt, guidance_scale=3.0, tau_f=0.8, tau_a=0.5)
        for mine, other in zip(ours, theirs, strict=True):
            assert_close(mine[prompt, 1], other[0])


def test_it_changes_the_result_and_at_scale_0_nothing() -> None:
    without, off, on = Run(frames=2), ControlledRun(0.0, frames=2), ControlledRun(1.0, frames=2)
    plain = without.sample(guidance_scale=3.0)[-1]
    assert_close(off.trajectory.noise, without.trajectory.noise, 1e-12)
    assert_close(off.sample(guidance_scale=3.0)[-1], plain, 1e-8)
    changed = on.sample(guidance_scale=3.0)[-1]
    assert ((changed - plain).norm() / plain.norm()).item() > 0.05


def test_the_source_comes_back_as_it_is_inverted_with_the_same() -> None:
    run = ControlledRun(controlled=3)
    with torch.no_grad():
        run.unet.conv_out.weight.mul_(0.01)
    noise = run.invert(iterations=8)[0]
    back = reconstruct_latents(run.network, run.schedule, noise, run.source, batches=Batches(1))
    assert_close(back[-1], run.latents)
    alone = reconstruct_latents(
        UNet(run.unet, 8), run.schedule, noise, run.source, batches=Batches(1)
    )
    assert ((alone[-1] - run.latents).norm() / run.latents.norm()).item() > 1e-4


class Seen:
    """Which frames' latents went through a ControlNet, with whose pictures.

    The source's are known by their numbers: they are those of the trajectory.
    """

    def __init__(self, run: ControlledRun, frames: int) -> None:
        self.frames: list[int] = []
        stored = run.trajectory.latents
        pictures = torch.from_numpy(pictures_of(range(frames))).movedim(-1, 1).double() / 255

        def look(_: Any, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
            latents, timestep = inputs
            step = run.schedule.timesteps.index(timestep)
            rows = named["controlnet_cond"]
            assert len(rows) == len(latents)
            for one, picture in zip(latents, rows, strict=True):
                for frame in range(frames):
                    if torch.equal(one, stored[step, frame]):
                        assert torch.equal(picture, pictures[frame])
                        self.frames.append(frame)

        run.controlnet.register_forward_pre_hook(look, with_kwargs=True)


@pytest.mark.parametrize(
    ("sharing", "batch_size"),
    [("none", 3), ("extended", 2), ("propagate", 1)],
)
def test_each_frame_follows_its_own_picture(sharing: str, batch_size: int) -> None:
    how = {"attention_sharing": sharing, "keyframe_every": 2, "keyframe_window": 2}
    run = ControlledRun(frames=5)
    expected = run.sample(batch_size=4, guidance_scale=3.0, **how)[-1]
    seen = Seen(run, 5)
    with text_cache(run.network):
        ours = run.sample(batch_size=batch_size, guidance_scale=3.0, **how)[-1]
    assert_close(ours, expected, 1e-12)
    assert all(seen.frames.count(frame) >= STEPS - 1 for frame in range(5))
    # What was kept of texts, and of branches that are alike, has left no trace.
    modules = list(run.controlnet.modules())[1:]
    assert not any(one._forward_hooks or one._forward_pre_hooks for one in modules)


def test_looking_for_what_a_text_names_follows_them_too() -> None:
    run = ControlledRun(frames=5)
    seen = Seen(run, 5)
    maps = attention_maps(run.network, run.trajectory, run.source, [1, 2], batch_size=2)
    assert torch.cat(list(maps)).shape[0] == 5
    assert sorted(seen.frames) == sorted([*range(5)] * 3)


def test_frames_without_numbers_are_a_mistake() -> None:
    run = ControlledRun(frames=2)
    batch = Batch(latents=run.latents, timestep=run.schedule.timesteps[0], texts=run.source)
    with pytest.raises(RuntimeError, match="frame numbers of a batch"):
        run.network.predict(batch)
    assert run.network.batch is None
