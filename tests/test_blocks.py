"""The blocks of a transformer, injected or skipped one at a time, through the front door."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import flow_models
import pytest
import torch
from command import assert_refused, save_frames
from PIL import Image

from pnpvideo import PnPFlowPipeline
from pnpvideo.cli import main
from pnpvideo.clips.sample_folder import PROJECT_SAMPLES
from pnpvideo.grid.block_folder import BlockFolder
from pnpvideo.grid.own_measures import OwnMeasures

BLOCKS = ["layers.0", "layers.1", "noise_refiner.0"]
HOW = ("--size", "32x24", "--steps", "2", "--device", "cpu", "--dtype", "float32", "--quiet")

SETTINGS = {"model": "flux", "prompt": ["a stone"], "kinds": "kv", "skip": False}


def rows(folder: str) -> dict[tuple[str, ...], tuple[str, str]]:
    with Path(folder, "blocks.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    found = {
        (line["picture"], line["prompt"], line["block"]): (line["structure"], line["text"])
        for line in lines
    }
    assert len(found) == len(lines)
    return found


def stop_after(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Interrupt a run once so many blocks are measured."""
    real, done = BlockFolder.add, list[int]()

    def add(self: BlockFolder, new: Sequence[Any]) -> None:
        real(self, new)
        done.append(1)
        if len(done) == count:
            raise KeyboardInterrupt

    monkeypatch.setattr(BlockFolder, "add", add)


def test_every_block_is_measured_and_a_stopped_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    flow_models.save_tiny_z_image(Path("z"))
    capsys.readouterr()  # What diffusers prints of saving.
    a, b = map(str, save_frames(Path("pictures"), 2))
    prompt = ("--prompt", "two old trees")
    assert main(["blocks", "z", a, b, *prompt, *HOW, "-o", "whole"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    whole = rows("whole")
    assert set(whole) == {
        (path, "two old trees", block) for path in (a, b) for block in ("none", *BLOCKS)
    }
    assert len(set(whole.values())) == len(whole)

    # What is printed and kept is the ranking by the means; one of three blocks is chosen.
    kept = json.loads(Path("whole/blocks.json").read_text())
    means = {
        block: sum(float(whole[key][0]) for key in whole if key[2] == block) / 2
        for block in ("none", *BLOCKS)
    }
    order = sorted(BLOCKS, key=lambda block: means[block])
    assert [line.partition(":")[0] for line in out.splitlines()[:4]] == ["none", *order]
    assert [line.endswith("*") for line in out.splitlines()[:4]] == [False, True, False, False]
    assert out.splitlines()[4:] == ["whole/blocks.csv", "whole/blocks.json", "whole/plot.png"]
    assert [one["name"] for one in kept["ranking"]] == ["none", *order]
    assert [one["structure"] for one in kept["ranking"]] == pytest.approx(
        [means[block] for block in ("none", *order)]
    )
    assert kept["blocks"] == {order[0]: "kv"}
    with Image.open("whole/plot.png") as plot:
        assert plot.width > 100

    # Pictures among the flags, in another order, and a stop in the middle change nothing.
    given = ["blocks", "z", "--kinds", "kv", b, *prompt, a, *HOW, "-o", "part"]
    with monkeypatch.context() as patch:
        stop_after(5, patch)
        assert main(given) == 130
    assert "the blocks that are measured are kept: run the same command" in capsys.readouterr().err
    assert len(rows("part")) == 5
    assert main(given) == 0
    assert rows("part") == whole
    assert main([*given[:3], "q", *given[4:]]) == 2
    assert "part holds results with kinds 'kv', not 'q'" in capsys.readouterr().err

    # With another prompt beside it, each keeps its own measures.
    both = ["--prompt", "a stone", *prompt, "--top", "9"]
    assert main(["blocks", "z", a, *both, *HOW, "-o", "both"]) == 0
    for key, (structure, _) in rows("both").items():
        if key in whole:
            assert float(structure) == pytest.approx(float(whole[key][0]), rel=1e-3)
    assert len(rows("both")) == 8
    assert set(json.loads(Path("both/blocks.json").read_text())["blocks"]) == set(BLOCKS)

    # A block's measure is that of the pipeline with a table of this block alone.
    flow_models.save(PnPFlowPipeline.from_pretrained("z").pipe, Path("one"), {BLOCKS[2]: "kv"})
    pipeline = PnPFlowPipeline.from_pretrained("one", dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    model = pipeline.model
    options = model.defaults.override({"steps": 2, "tau_f": 1.0, "tau_a": 1.0})
    result = pipeline(
        "two old trees", image=Image.open(b), width=32, height=24, options=options,
        generator=torch.Generator().manual_seed(0), output_type="latent",
    )  # fmt: skip
    with model.network() as network:
        own = OwnMeasures(
            network,
            model.layers,
            model.schedule(options, (32, 24)),
            model.encode_texts([""]),
            batch_size=4,
        )
        found = own.structure(result.frames[0], result.trajectory.clean)
    assert found == pytest.approx(float(whole[b, "two old trees", BLOCKS[2]][0]), rel=1e-4)
    assert found != pytest.approx(float(whole[b, "two old trees", BLOCKS[1]][0]), rel=1e-2)


def test_blocks_that_are_skipped_and_a_table_that_translate_uses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On the bundled samples, with their own prompts."""
    monkeypatch.chdir(tmp_path)
    flow_models.save_tiny_qwen(Path("qwen"))
    own = Path("qwen/pnp.json")
    own.write_text('{"options": {"steps": 2, "tau_a": 1, "guidance_scale": 30}, "by": "me\\u00e9"}')
    short = ("--size", "16x16", "--device", "cpu", "--quiet", "-o")
    picture = str(save_frames(Path("pictures"), 1)[0])
    translate = ["translate", picture, "--prompt", "a stone", "--model", "qwen", *short]
    assert main([*translate, "before.png", "--method", "inject"]) == 2
    assert "nobody has published which blocks" in capsys.readouterr().err

    measure = ["blocks", "qwen", "--skip", "--kinds", "qv", *short, "skipped"]
    assert main(measure) == 0
    assert "blocks" not in json.loads(own.read_text())
    found = rows("skipped")
    samples = {path.stem for path in PROJECT_SAMPLES.glob("*.yaml")}
    assert {(key[0], key[2]) for key in found} == {
        (name, block)
        for name in samples
        for block in ("none", *(f"transformer_blocks.{n}" for n in range(2)))
    }
    for (_, _, block), (structure, _) in found.items():
        assert (float(structure) == 0) == (block == "none")
    ranking = json.loads(Path("skipped/blocks.json").read_text())["ranking"]
    assert ranking[0]["structure"] == 0 < ranking[2]["structure"] < ranking[1]["structure"]

    # Nothing is measured again for a larger table.
    stop_after(1, monkeypatch)
    assert main([*measure, "--top", "2", "--write"]) == 0
    assert capsys.readouterr().out.endswith("skipped/plot.png\nqwen/pnp.json\n")
    content = json.loads(own.read_text())
    best = sorted(one["name"] for one in ranking[1:3])
    assert content == {
        "options": {"steps": 2, "tau_a": 1, "guidance_scale": 30},
        "by": "me\u00e9",
        "blocks": dict.fromkeys(best, "qv"),
    }
    assert list(content["blocks"]) == best
    assert main([*translate, "after.png"]) == 0
    # It is the table that makes the difference.
    assert main([*translate, "plain.png", "--tau-a", "0"]) == 0
    assert Path("after.png").read_bytes() != Path("plain.png").read_bytes()


def test_what_cannot_be_measured_is_refused(
    tiny_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    picture = str(save_frames(Path("pictures"), 1)[0])
    Path("no-picture.png").write_text("x")
    text, out = ("--prompt", "a stone"), ("-o", "out")
    for arguments, message in (
        ([str(tiny_model), picture, *text, *out], "has a UNet, whose layers are chosen by a rule"),
        (["embedded", *out], "has a UNet"),
        (["me/mine", *out, "--write"], "me/mine is not a folder; run 'hf download me/mine"),
        (["flux2-klein", *out, "--write"], "flux2-klein is not a folder; run 'hf download black"),
        (["me/mine", "--kinds", "kx", *out], "kinds is 'kx'; give some of the letters q, k, v and"),
        (["me/mine", "--kinds", "", *out], "kinds is ''; give some of the letters"),
        (["me/mine", "gone.png", *text, *out], "gone.png does not exist"),
        (["me/mine", "no-picture.png", *text, *out], "no-picture.png"),
        (["me/mine", picture, *out], "give a prompt that says what the results are to show"),
        (["me/mine", picture, picture, *text, *out], "pictures has a value twice"),
        (["me/mine", *text, *text, *out], "prompt has a value twice"),
        (["me/mine", "--top", "0", *out], "top is 0; give a whole number from 1"),
        (["me/mine", "--network", "clip", *out], "network is 'clip'; give ROLE=FOLDER"),
        (["me/mine", "--tau-a", "1", *out], "there is no option --tau-a"),
    ):
        code = main(["blocks", *arguments])
        assert_refused((code, *capsys.readouterr()), 2, message)
    assert not Path("out").exists()


def test_folders_that_are_not_of_such_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("flux").mkdir()
    Path("flux/model_index.json").write_text('{"_class_name": "FluxPipeline"}')
    picture = str(save_frames(Path("pictures"), 1)[0])
    for place, made_with, table in (
        ("other", '{"model": "other"}', "picture"),
        ("damaged", None, "picture,prompt\na,b\n"),
        ("damaged-too", None, "picture,prompt,block,structure,text\na,b,c,much,0\n"),
        ("without", "", "picture"),
    ):
        Path(place).mkdir()
        Path(place, "blocks.csv").write_text(table)
        if made_with != "":
            Path(place, "run.json").write_text(
                made_with or json.dumps(SETTINGS | {"pictures": [picture]})
            )
    Path("made").mkdir()
    Path("made/holiday.jpg").touch()
    Path("plain").touch()
    for place, message in (
        ("made", "made holds holiday.jpg, which is not a measure of blocks"),
        ("plain", "plain is a file; choose another name"),
        ("other", "other holds results with"),
        ("damaged", "damaged/blocks.csv is damaged; give --overwrite to measure again"),
        ("damaged-too", "damaged-too/blocks.csv is damaged"),
        ("without", "without/blocks.csv exists already; choose another folder"),
    ):
        code = main(["blocks", "flux", picture, "--prompt", "a stone", "-o", place])
        assert_refused((code, *capsys.readouterr()), 2, message)
