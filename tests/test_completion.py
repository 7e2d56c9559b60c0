"""`pnpvideo completion`: what shells complete."""

import shutil
import subprocess
from pathlib import Path

import pytest
import shtab

from pnpvideo.cli import COMMANDS, main
from pnpvideo.options.declared import declared
from pnpvideo.options.settings import Settings


def completed(script: Path, *words: str) -> set[str]:
    """Return the completions that a real bash offers for the last word."""
    line = " ".join(repr(word) for word in words)
    asked = f"""source {script}
COMP_WORDS=({line}); COMP_CWORD={len(words) - 1}; COMPREPLY=()
_shtab_pnpvideo
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
    bash = shutil.which("bash")
    assert bash is not None
    done = subprocess.run([bash, "-c", asked], capture_output=True, text=True, cwd=script.parent)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_bash_completes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", "bash"]) == 0
    script = tmp_path / "pnpvideo.bash"
    script.write_text(capsys.readouterr().out)
    (tmp_path / "toy.safetensors").write_bytes(b"")
    assert completed(script, "pnpvideo", "") == {*COMMANDS}
    flags = completed(script, "pnpvideo", "translate", "--")
    wanted = {f"--{name.replace('_', '-')}" for name in declared(Settings)} - {"--source"}
    assert wanted | {"--json", "--config", "--overwrite", "--no-compare"} <= flags
    assert completed(script, "pnpvideo", "translate", "--preset", "") == {
        "fast", "balanced", "best",
    }  # fmt: skip
    assert "toy.safetensors" in completed(script, "pnpvideo", "translate", "--embedding", "t")
    for command in COMMANDS:
        assert completed(script, "pnpvideo", command, "--") != set()

    assert completed(script, "pnpvideo", "completion", "") == {*shtab.SUPPORTED_SHELLS}


@pytest.mark.parametrize("shell", shtab.SUPPORTED_SHELLS)
def test_every_shell_has_a_script(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    assert "tau-f" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("given", "message"),
    [([], "give a shell: bash, zsh"), (["sh"], "shell is 'sh'; give bash, zsh")],
)
def test_unknown_shells(given: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", *given]) == 2
    assert message in capsys.readouterr().err
