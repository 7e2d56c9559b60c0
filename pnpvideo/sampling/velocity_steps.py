"""The steps of the methods that combine velocities (see `velocity_methods`)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from pnpvideo.models.prompt import PromptEmbeddings, concatenate
from pnpvideo.options.edit_method import UNGUIDED
from pnpvideo.sampling.exact_source import missed
from pnpvideo.sampling.guidance import Texts
from pnpvideo.sampling.passes import InjectedBatch, Pass
from pnpvideo.sampling.rows import rows_of
from pnpvideo.sampling.steps import Steps
from pnpvideo.sampling.velocity import straight, velocity
from pnpvideo.sampling.velocity_methods import METHODS, Moment, Place, Role
from pnpvideo.sampling.windows import Predict, as_clip, from_clip

Text = Literal["source", "target", "negative", "empty"]
Rows = Mapping[Place, tuple[Text, ...]]
"""The texts of each of a place's latents: those of the method, each after its negative text."""


@dataclass(frozen=True, kw_only=True)
class VelocitySteps(Steps):
    """The steps of one of `METHODS`, each of one pass of the network for all that it asks.

    predict: of the network. packing: see `Model.packing`. kept: the embeddings of passes, so that a
    network can cache what it computes of them.
    """

    predict: Predict
    packing: int
    kept: dict[tuple[Text, ...], tuple[Texts, PromptEmbeddings]] = field(default_factory=dict)

    def step(self, target: Tensor, i: int, noise: Tensor | None, frame_pass: Pass) -> Tensor:
        options, (start, end) = self.options, self.schedule.levels[i : i + 2]
        moment = Moment(
            x=target if options.edits_clean else straight(target, start),
            source=self._source(i, frame_pass.places, target),
            noise=noise,
            s=start.share,
            after=end.share,
            strength=options.own_strength,
            scale=self.guidance.scale_at(self.schedule.timesteps[i]),
            boost=options.long_scene_boost,
            packing=self.packing,
        )
        found = self._ask(moment, i, frame_pass)
        if self.scenes is not None:
            # What a method measures of a piece, it measures of a whole scene.
            found = {asked: as_clip(output) for asked, output in found.items()}
            after = from_clip(METHODS[options.method].step(moment.of_clip(), found))
        else:
            after = METHODS[options.method].step(moment, found)
        self.expect(moment.x - moment.s * (after - moment.x) / moment.h, frame_pass.places)
        return after if options.edits_clean else end.sum * after

    def _source(self, i: int, places: slice | Sequence[int], like: Tensor) -> tuple[Tensor, Tensor]:
        """Return the source as a `Moment` has it."""
        latents, levels = self.trajectory.latents, self.schedule.levels
        if self.options.edits_clean:
            clean = latents[-1, places].to(like)
            return clean, clean
        here, after = (straight(latents[n, places].to(like), levels[n]) for n in (i, i + 1))
        return here, after

    def _ask(self, moment: Moment, i: int, frame_pass: Pass) -> dict[tuple[Place, Role], Tensor]:
        """Return all velocities that the method asks for, from one pass."""
        level, kind, options = self.schedule.levels[i], self.schedule.prediction_type, self.options
        rows = self._rows(i)
        at = {place: level.sum * moment.at(place) for place in rows}
        latents = torch.cat(
            [at[place].repeat_interleave(len(texts), dim=0) for place, texts in rows.items()]
        )
        asked = latents
        if options.exact_source:
            off = missed(self.trajectory, self.schedule, options.solver, i, frame_pass.places)
            asked = latents + off.to(latents)
        counts = {len(texts) for texts in rows.values()}
        batch = InjectedBatch(
            latents=rows_of(asked),
            timestep=self.schedule.timesteps[i],
            texts=self._texts(rows),
            pieces=frame_pass.frames,
            branches_with_equal_latents=counts.pop() if len(counts) == 1 else 1,
        )
        outputs = self.predict(batch).view_as(latents)
        found: dict[tuple[Place, Role], Tensor] = {}
        for place, texts in rows.items():
            count = len(at[place]) * len(texts)
            own, outputs = outputs[:count], outputs[count:]
            each = own.view(len(at[place]), len(texts), *own.shape[1:])
            for role, output in self._by_role(i, texts, each).items():
                found[place, role] = velocity(at[place], output, level, kind)
        return found

    def _rows(self, i: int) -> Rows:
        """Return the texts of step i."""
        options, guidance = self.options, self.guidance
        guided = options.method not in UNGUIDED and guidance.guides(i)
        source_guided = (
            options.method == "flowedit"
            and options.source_guidance != 1
            and not guidance.is_built_in
            and guidance.acts(i)
        )
        whole: dict[Role, tuple[Text, ...]] = {
            "source": ("empty", "source") if source_guided else ("source",),
            "target": ("negative", "target") if guided else ("target",),
        }
        asks = METHODS[options.method].asks
        return {
            place: tuple(text for role in roles for text in whole[role])
            for place, roles in asks.items()
        }

    def _texts(self, rows: Rows) -> PromptEmbeddings:
        """Return the embeddings of a pass, row by row."""
        texts = self.guidance.run_texts
        key = tuple(text for names in rows.values() for text in names)
        if key not in self.kept or self.kept[key][0] is not texts:
            parts: list[PromptEmbeddings] = []
            for place, names in rows.items():
                for prompt in range(1 if place == "q" else len(texts.targets)):
                    parts += [self._embedding(name, prompt) for name in names]
            self.kept[key] = texts, concatenate(parts)
        return self.kept[key][1]

    def _embedding(self, name: Text, prompt: int) -> PromptEmbeddings:
        texts, options, one = self.guidance.run_texts, self.options, slice(prompt, prompt + 1)
        if name == "empty":
            return texts.unconditional
        if name == "negative":
            return texts.negatives[one]
        if name == "source":
            scale = options.source_guidance if options.method == "flowedit" else 1.0
            return self.guidance.with_scale(texts.source, scale)
        scale = 1.0 if options.method in UNGUIDED else self.guidance.scale
        return self.guidance.with_scale(texts.targets[one], scale)

    def _by_role(self, i: int, texts: tuple[Text, ...], outputs: Tensor) -> dict[Role, Tensor]:
        """Return outputs (n, texts, pieces, c, ...) by role: (n, pieces, c, ...)."""
        found: dict[Role, Tensor] = {}
        if "source" in texts:
            found["source"] = outputs[:, texts.index("source")]
        if "empty" in texts:
            empty, scale = outputs[:, texts.index("empty")], self.options.source_guidance
            found["source"] = self.guidance.guided(empty, found["source"], scale)
        if "target" in texts:
            found["target"] = found["conditional"] = outputs[:, texts.index("target")]
        if "negative" in texts:
            found["target"] = self.guidance.combine(i, self.schedule.timesteps[i], outputs)
        return found
