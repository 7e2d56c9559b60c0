"""Keyframes of each step of a run, and the tokens of the source matched to them if needed."""

from collections.abc import Iterator, Sequence
from functools import partial

from pnpvideo.models.network import Network
from pnpvideo.models.prompt import PromptEmbeddings
from pnpvideo.options.method import PnPOptions
from pnpvideo.sampling.choose_keyframes import choose_keyframes, latent_change
from pnpvideo.sampling.match_tokens import Matches, match_clip
from pnpvideo.sampling.passes import Pass, Sharing, plan_shared
from pnpvideo.storage.trajectory import Trajectory


class KeyframeSharing:
    """The plan of the passes of each step of one run, and of the attention that each shares."""

    def __init__(
        self,
        network: Network,
        trajectory: Trajectory,
        text: PromptEmbeddings,
        options: PnPOptions,
        scenes: Sequence[range],
        *,
        seed: int,
        span: range,
    ) -> None:
        """scenes: all scenes of the clip. span: the frames to sample, which are whole scenes."""
        self.sampled = [scene for scene in scenes if scene.start in span]
        self.match = partial(match_clip, network, trajectory, text, self.sampled)
        self.options, self.scenes, self.device = options, scenes, network.device
        self.seed = seed
        self.change = latent_change(trajectory.clean) if options.keyframes == "content" else ()
        self.current: tuple[int, ...] = ()
        self.matches: Matches = {}

    def plan(self, step: int, batch_size: int) -> Iterator[Pass]:
        """Yield the passes of a step, after matching tokens if the mode needs it."""
        keyframes = choose_keyframes(
            self.scenes,
            self.options.keyframes,
            every=self.options.keyframe_every,
            step=step,
            seed=self.seed,
            change=self.change,
        )
        if self.options.attention_sharing == "propagate" and keyframes != self.current:
            self.matches = self.match(keyframes, batch_size=batch_size)
        self.current = keyframes
        return plan_shared(
            self.sampled,
            keyframes,
            window=self.options.keyframe_window,
            step=step,
            batch_size=batch_size,
        )

    def sharing(self, frame_pass: Pass) -> Sharing:
        """Return what a pass shares."""
        matches = {}
        if frame_pass.role == "between":
            part = list(frame_pass.frames)
            matches = {n: m[part].to(self.device).long() for n, m in self.matches.items()}
        return Sharing(mode=self.options.attention_sharing, frame_pass=frame_pass, matches=matches)
