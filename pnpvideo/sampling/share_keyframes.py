"""Keyframes over the steps of a run: chosen anew, the source's tokens matched where needed."""

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
    """Plans the passes of each step of one run, and says what each of them shares."""

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
        """scenes: all of the clip. span: the frames that are sampled, of whole scenes."""
        self.sampled = [scene for scene in scenes if scene.start in span]
        self.match = partial(match_clip, network, trajectory, text, self.sampled)
        self.options, self.scenes, self.device = options, scenes, network.device
        self.seed = seed
        self.change = latent_change(trajectory.clean) if options.keyframes == "content" else ()
        self.current: tuple[int, ...] = ()
        self.matches: Matches = {}

    def plan(self, step: int, batch_size: int) -> Iterator[Pass]:
        """The passes of a step, its tokens matched where that is needed."""
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

    def sharing(self, work: Pass) -> Sharing:
        """What a pass shares."""
        matches = {}
        if work.role == "between":
            part = list(work.frames)
            matches = {n: m[part].to(self.device).long() for n, m in self.matches.items()}
        return Sharing(mode=self.options.attention_sharing, work=work, matches=matches)
