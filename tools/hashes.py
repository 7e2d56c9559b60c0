"""Write requirements files with the hashes of all packages, which pip can check.

    python -m tools.hashes

The versions are those of the environment that runs this, which must be those of constraints.txt,
and of requirements-web.txt. The packages are those for Linux on x86-64 with CPython 3.11. uv asks
the package index for the hashes, and downloads nothing but metadata. The files in hashes/ are:

    base.txt    pnpvideo needs these, beside PyTorch
    torch.txt   PyTorch with CUDA, as PyPI has it
    extras.txt  what eval, lycoris, quantize, distributed and web need beside these
"""

import re
import subprocess
import sys
from importlib.metadata import distributions
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "hashes"
WEB = ROOT / "requirements-web.txt"
EXTRAS = ("eval", "lycoris", "quantize", "distributed")
_PLATFORM = ("--python-version", "3.11", "--python-platform", "x86_64-manylinux_2_28")
_PYTORCH = re.compile(r"torch|triton|nvidia-.*|cuda-.*")
_HEAD = "# Made by: python -m tools.hashes (for Linux on x86-64 with CPython 3.11)\n"

Requirements = dict[str, str]
"""By name of a package: its lines in a requirements file."""


def main() -> int:
    """Run the command."""
    with TemporaryDirectory() as folder:
        tested = Path(folder) / "tested.txt"
        tested.write_text("\n".join(installed()))
        project = str(ROOT / "pyproject.toml")
        extras = [f"--extra={extra}" for extra in EXTRAS]
        versions = [f"--constraint={path}" for path in (tested, ROOT / "constraints.txt")]
        needed = compiled(project, *versions)
        more = compiled(project, *extras, *versions)
        # Gradio asks for a Pillow that is older than the tested one.
        more |= compiled(str(WEB), "--no-deps")
    torch = {name: lines for name, lines in needed.items() if _PYTORCH.fullmatch(name)}
    base = {name: lines for name, lines in needed.items() if name not in torch}
    FOLDER.mkdir(exist_ok=True)
    for name, part in (("base", base), ("torch", torch), ("extras", more)):
        lines = [
            text for key, text in sorted(part.items()) if name != "extras" or key not in needed
        ]
        (FOLDER / f"{name}.txt").write_text(_HEAD + "".join(lines))
    return 0


def installed() -> list[str]:
    """Return the installed packages as constraints. A build's own label (+cpu) is left out."""
    return [
        f"{one.name}=={one.version.partition('+')[0]}"
        for one in distributions()
        if one.name not in ("pip", "setuptools")  # Those that a new environment begins with.
    ]


def compiled(source: str, *options: str) -> Requirements:
    """Return the packages of a project or a requirements file, with hashes."""
    command = ["uv", "pip", "compile", source, "--quiet", "--generate-hashes", *_PLATFORM]
    command += ["--no-annotate", "--no-header", "--default-index=https://pypi.org/simple"]
    done = subprocess.run([*command, *options], capture_output=True, text=True, cwd=ROOT)
    if done.returncode:
        sys.exit(done.stderr)
    return parsed(done.stdout)


def parsed(text: str) -> Requirements:
    """Split a requirements file by packages. Comments are left out."""
    lines = [line for line in text.splitlines(keepends=True) if not line.startswith("#")]
    blocks = re.split(r"(?m)^(?=\S)", "".join(lines))
    return {block.partition("==")[0]: block for block in blocks if block.strip()}


if __name__ == "__main__":
    sys.exit(main())
