"""Saves the source's branch: it goes only as far as something of it is read."""

from dataclasses import replace

from torch import Tensor

from pnpvideo.models.network import Batch
from pnpvideo.sampling.inject import FeatureInjector, Predict
from pnpvideo.sampling.passes import InjectedBatch


def skip_source(injector: FeatureInjector) -> Predict:
    """The injector's `predict`, but for its features alone the source goes by itself, up to them.

    Where nothing of the source is read it does not go at all: its branch would change no result.
    """

    def predict(batch: InjectedBatch) -> Tensor:
        if not batch.with_source or injector.reads_attention(batch):
            return injector.predict(batch)
        rows = batch.source_rows
        made = batch.made
        if batch.features:
            source = Batch(
                latents=batch.latents[:rows],
                timestep=batch.timestep,
                texts=batch.texts.first,
                frames=batch.frames,
            )
            made = injector.make_features(source)
        targets = replace(
            batch,
            latents=batch.latents[rows:],
            texts=batch.texts.rest,
            with_source=False,
            attention=False,
            made=made,
        )
        return injector.predict(targets)

    return predict
