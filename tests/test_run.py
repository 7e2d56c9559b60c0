"""One run after the other with a model that is loaded once."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from command import names, pixels, save_frames

from pnpvideo import InputError, Settings, translate
from pnpvideo.options.method import PnPOptions
from pnpvideo.pipelines.stable_diffusion import PnPVideoPipeline
from pnpvideo.run.run import run


def settings(folder: Path, model: Path, output: str, **more: object) -> Settings:
    common = {"prompt": "a stone", "steps": 2, "model": model, "seed": 3}
    return Settings.of(common | {"source": folder / "in", "output": folder / output} | more)


def test_a_loaded_model_serves_many_runs(
    pipeline: PnPVideoPipeline, tiny_model: Path, tmp_path: Path
) -> None:
    save_frames(tmp_path / "in", 3)
    more: dict[str, object] = {"attention_sharing": "extended", "compare": True}
    alone = run(settings(tmp_path, tiny_model, "alone/"), quiet=True)
    processors, weights = pipeline.unet.attn_processors, pipeline.unet.state_dict()
    before = {name: weight.clone() for name, weight in weights.items()}
    first = run(settings(tmp_path, tiny_model, "first/"), pipeline, quiet=True)
    other = run(settings(tmp_path, tiny_model, "other/", **more), pipeline, quiet=True)
    again = run(settings(tmp_path, tiny_model, "again/"), pipeline, quiet=True)
    for result in (first, again):
        for name in ("000001.png", "000002.png", "000003.png"):
            expected = pixels(alone.outputs[0] / name)
            np.testing.assert_array_equal(pixels(result.outputs[0] / name), expected)
    assert names(other.compares[0]) == {"000001.png", "000002.png", "000003.png"}
    assert pipeline.unet.attn_processors == processors
    for name, weight in pipeline.unet.state_dict().items():
        assert torch.equal(weight, before[name])
    one, two = (yaml.safe_load(result.settings.read_text()) for result in (alone, first))
    assert {k: v for k, v in one.items() if k != "output"} == {
        k: v for k, v in two.items() if k != "output"
    }


def test_a_negative_prompt_that_does_nothing_is_told(
    pipeline: PnPVideoPipeline,
    tiny_model: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    save_frames(tmp_path / "in", 1)
    told, results = [], []
    for scale, negative in ((1, ()), (1, "blue"), (3, ()), (3, "blue")):
        caplog.clear()
        more: dict[str, object] = {"guidance_scale": scale, "negative_prompt": negative}
        name = f"{len(told)}.png"
        run(settings(tmp_path, tiny_model, name, **more), pipeline, quiet=True)
        told.append([r.getMessage() for r in caplog.records if r.levelname == "WARNING"])
        results.append(pixels(tmp_path / name))
    assert told == [
        [],
        ["negative_prompt has no effect at guidance_scale 1; give a larger one"],
        [],
        [],
    ]
    np.testing.assert_array_equal(results[0], results[1])
    assert not np.array_equal(results[2], results[3])


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"source_guidance": 3}, "source_guidance has no effect with method inject"),
        ({"source_guidance": 3, "method": "uniedit"}, "only with flowedit"),
        ({"source_guidance": 3, "method": "flowedit"}, None),
        ({"solver": "fireflow", "method": "flowedit"}, "solver has no effect with method flowedit"),
        (
            {"inversion_iterations": 3, "method": "flowalign"},
            "inversion_iterations has no effect with method flowalign, which inverts nothing",
        ),
        ({"solver": "fireflow", "method": "uniedit"}, None),
        (
            {"solver": "lookahead", "start_from": "noised"},
            "no effect with start_from noised, which",
        ),
        ({"inversion_iterations": 2, "start_from": "noise"}, "no effect with start_from noise, wh"),
        ({"solver": "midpoint", "start_from": "noised"}, None),
        ({"negative_prompt": "blue", "method": "uniedit"}, "negative_prompt has no effect"),
    ],
)
def test_what_a_method_has_no_use_for(given: dict[str, object], words: str | None) -> None:
    values = Settings.of({"source": "a.png", "prompt": "a stone", "output": "b.png", **given})
    ignored = values.ignored(values.resolve(PnPOptions()))
    assert (ignored is None) == (words is None)
    assert (words or "") in (ignored or "")


def test_an_error_leaves_a_loaded_model_as_it_was(
    pipeline: PnPVideoPipeline, tiny_model: Path, tmp_path: Path
) -> None:
    save_frames(tmp_path / "in", 1)
    processors = pipeline.unet.attn_processors
    with pytest.raises(InputError, match="multiples of"):
        run(settings(tmp_path, tiny_model, "a.png", size="33x32"), pipeline, quiet=True)
    with pytest.raises(InputError, match="inversion_steps is 5; give a multiple of steps, 2"):
        run(settings(tmp_path, tiny_model, "a.png", inversion_steps=5), pipeline, quiet=True)
    assert pipeline.unet.attn_processors == processors
    assert names(tmp_path) == {"in", "in/source0.png"}


@pytest.mark.parametrize("given", ["embedded", Path("model"), torch.nn.Linear(1, 1)])
def test_a_pipeline_that_is_not_loaded(given: Any) -> None:
    with pytest.raises(InputError, match=r"^pipeline is .*; give one that is loaded") as refused:
        translate("source0.png", "a stone", pipeline=given)
    assert "\n" not in str(refused.value)


def test_translate_takes_a_loaded_model(
    pipeline: PnPVideoPipeline, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    save_frames(tmp_path, 1)
    done = translate("source0.png", "a stone", pipeline=pipeline, steps=2, quiet=True)
    assert done.outputs == (Path("source0-translated.png"),)
    with pytest.raises(InputError, match="there is no option stesp; did you mean steps"):
        translate("source0.png", "a stone", pipeline=pipeline, stesp=2)
