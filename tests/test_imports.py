"""The package's files import one way: each only from those above it."""

import ast
from pathlib import Path

PACKAGE = Path(__file__).parent.parent / "pnpvideo"
ORDER = [
    "errors",
    "options",
    "read_ahead",
    "fit_batches",
    "working_device",
    "clip",
    "as_clip",
    "choose_frames",
    "find_scenes",
    "estimate_motion",
    "choose_keyframes",
    "plan_passes",
    "run_ffmpeg",
    "probe_video",
    "frame_timing",
    "decode_image",
    "read_images",
    "read_video",
    "read_clip",
    "atomic_output",
    "mux_frames",
    "write_images",
    "write_video",
    "write_clip",
    "load_model",
    "encode_prompt",
    "encode_frames",
    "decode_latents",
    "blend_frames",
    "latent_file",
    "trajectory",
    "free_memory",
    "settings",
    "keep_trajectory",
    "noise_schedule",
    "keep_text",
    "predict_noise",
    "invert_latents",
    "share_noise",
    "attend_frames",
    "inject_features",
    "match_tokens",
    "share_keyframes",
    "denoising_state",
    "denoise_latents",
    "fingerprint",
    "job_folder",
    "pipeline",
    "translate",
    "cli",
    "__init__",
    "__main__",
]


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("pnpvideo."):
            names.add(node.module.split(".")[1])
    return names


def test_every_file_has_its_place() -> None:
    assert sorted(path.stem for path in PACKAGE.glob("*.py")) == sorted(ORDER)


def test_files_import_only_from_those_above() -> None:
    for place, name in enumerate(ORDER):
        below = imported(PACKAGE / f"{name}.py") - set(ORDER[:place])
        assert not below, f"{name} imports {below} from below"
