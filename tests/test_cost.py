"""The cost of a run, against the passes that its progress bars count."""

from pathlib import Path
from typing import Any

import pytest
from command import save_frames
from tqdm import tqdm

from pnpvideo.options.method import PnPOptions
from pnpvideo.options.settings import Settings
from pnpvideo.pipelines.stable_diffusion import PnPVideoPipeline
from pnpvideo.run.run import run
from pnpvideo.stages.cost import cost_of


@pytest.mark.parametrize("generated", [True, False])
@pytest.mark.parametrize("guidance_scale", [1.0, 7.5])
@pytest.mark.parametrize("start", ["inverted", "noised"])
def test_the_cost_is_that_of_the_bars(
    pipeline: PnPVideoPipeline, tmp_path: Path, generated: bool, guidance_scale: float, start: str
) -> None:
    """Bars count steps: a step of sampling takes the passes of all its branches."""
    begun: dict[str, int] = {}

    class Bar(tqdm):  # type: ignore[type-arg]
        def __init__(self, *, desc: str, total: int, **rest: object) -> None:
            begun[desc] = total
            super().__init__(total=total, disable=True)

    own = {"source": str(save_frames(tmp_path, 1)[0])}
    if generated:
        own = {"guidance_prompt": "a cat"}
    settings = Settings.of(
        own
        | {"prompt": ["a", "b"], "steps": 3, "inversion_iterations": 2}
        | {
            "guidance_scale": guidance_scale,
            "output": str(tmp_path / "out.png"),
            "start_from": start,
        }
    )
    run(settings, pipeline, bars=Bar)
    cost = cost_of(settings.resolve(pipeline.model_options), 2, generated=generated)
    branches = 1 if guidance_scale == 1 else 2
    read = {cost.source_stage: cost.source // (branches if generated else 1)}
    assert begun == {
        **(read if generated or start == "inverted" else {}),
        "translating": cost.sampling // (1 + 2 * branches),
    }


@pytest.mark.parametrize(
    ("own", "source", "sampling"),
    [
        # Few-step models: 4 passes of the target, and one of the source.
        ({"steps": 4, "guidance_scale": 1.0, "feature_level": 0.2, "start_from": "noised"}, 0, 5),
        ({"steps": 4, "guidance_scale": 1.0, "feature_level": 0.2}, 4, 5),
        ({"steps": 10, "feature_level": 0.5}, 10, 5 + 20),
        ({"steps": 10, "start_level": 0.6, "start_from": "noised"}, 0, 6 + 12),
        ({"steps": 10, "start_level": 0.6, "feature_level": 0.8}, 10, 6 + 12),
    ],
)
def test_what_is_read_once_costs_one_pass(own: dict[str, Any], source: int, sampling: int) -> None:
    cost = cost_of(PnPOptions(**own), 1, generated=False)
    assert (cost.source, cost.sampling) == (source, sampling)
