"""The benchmark's two methods are one in mathematics, through the package's own stages."""

import csv
import sys
from pathlib import Path

import pytest
import torch

from pnpvideo.pipelines.stable_diffusion import PnPVideoPipeline
from tools.speed import gpu
from tools.speed.benchmark import random_frames, translate_once


@pytest.mark.parametrize("iterations", [1, 2])
def test_the_plain_method_gives_the_same(tiny_model: Path, iterations: int) -> None:
    pipeline = PnPVideoPipeline.from_pretrained(str(tiny_model), torch_dtype=torch.float64)
    pipeline.set_progress_bar_config(disable=True)
    options = pipeline.model_options.override(
        {"steps": 4, "inversion_iterations": iterations, "tau_f": 0.75, "tau_a": 0.5}
    )
    frames = random_frames(3, 32)
    assert frames.shape == (3, 32, 32, 3)
    plain, ours = (
        translate_once(pipeline, method, frames, options, batch_size=2)
        for method in ("plain", "best")
    )
    assert plain.latents.dtype == torch.float64
    assert plain.latents.std() > 0.1
    torch.testing.assert_close(ours.latents, plain.latents, rtol=1e-9, atol=1e-9)
    assert set(ours.seconds) == {"encode", "invert", "denoise", "decode"}
    other = translate_once(
        pipeline, "plain", frames, options.override({"tau_a": 0.25}), batch_size=2
    )
    assert not torch.allclose(other.latents, plain.latents)


def test_the_gpu_script_runs_on_a_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny = ["--tiny", "--device", "cpu", "--dtype", "float32", "--frames", "2", "--steps", "2"]
    names = ["as it is", "channels_last"]  # To compile takes minutes on a CPU.
    arguments = ["gpu", *tiny, "--preparations", *names, "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", arguments)
    gpu.main()
    tables = {
        name: list(csv.DictReader((tmp_path / f"{name}.csv").open()))
        for name in ("edits", "passes")
    }
    assert [row["way"] for row in tables["edits"]] == [way.name for way in gpu.WAYS]
    assert [row["UNet"] for row in tables["passes"]] == names
    work = {row["way"]: float(row["TFLOP a frame"]) for row in tables["edits"]}
    # In a model this small the texts, of which an edit has one more, outweigh what it saves.
    assert work["exact"] > work["source read once"] > work["read once, not inverted"]
    assert all(float(row["frames a second"]) > 0 for row in tables["edits"])
    assert (tmp_path / "edits.md").is_file()
