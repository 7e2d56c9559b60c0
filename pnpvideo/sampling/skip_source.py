"""Run the source's branch only as far as something of it is injected."""

from dataclasses import replace

from torch import Tensor

from pnpvideo.models.network import Batch
from pnpvideo.sampling.inject import FeatureInjector, Predict
from pnpvideo.sampling.passes import InjectedBatch


def skip_source(injector: FeatureInjector) -> Predict:
    """Return the injector's `predict` without the work on the source that changes no result.

    If only features are injected, the source runs alone, up to the last of them. If nothing is
    injected, it does not run.
    """

    def predict(batch: InjectedBatch) -> Tensor:
        if not batch.with_source or injector.reads_attention(batch):
            return injector.predict(batch)
        rows = batch.source_rows
        reading = batch.reading
        if batch.features:
            source = Batch(
                latents=batch.latents[:rows],
                timestep=batch.timestep,
                texts=batch.texts.first,
                pieces=batch.pieces,
            )
            reading = injector.read(source, features=True, attention=False)
        targets = replace(
            batch,
            latents=batch.latents[rows:],
            texts=batch.texts.rest,
            with_source=False,
            attention=False,
            reading=reading,
        )
        return injector.predict(targets)

    return predict
