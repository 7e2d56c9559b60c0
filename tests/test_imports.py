"""The package's rooms import one way, without circles, and some of them without torch."""

import ast
import gc
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest
from command import run_script

from pnpvideo.importing import without_collection

PACKAGE = Path(__file__).parent.parent / "pnpvideo"
ORDER = [
    {"errors", "importing"},
    {"files"},
    {"options"},
    {"catalogue"},
    {"clips"},
    {"pixels"},
    {"storage"},
    {"models"},
    {"loading"},
    {"sampling"},
    {"stages"},
    {"pipelines"},
    {"run"},
    {"batch", "evaluation", "inside"},
    {"grid"},
    {"__init__"},
    {"web"},
    {"commands"},
    {"cli"},
    {"__main__"},
]
"""Folders, and files beside them. Each imports only from lines above its own and from itself."""

ROOMS = {room for line in ORDER for room in line}
SENTENCES = {
    "diffusers": ROOMS - {"models", "loading", "pipelines"},
    "cv2": {"sampling"},
    "pnpvideo.models": {"storage"},
    "pnpvideo.sampling": {"web"},
}
"""By what is imported: the rooms that must not know it."""
EXTRAS = ("jinja2", "pyarrow", "scipy", "skimage", "torchmetrics")
"""The packages that the extra [eval] installs."""
FILES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts): path
    for path in PACKAGE.rglob("*.py")
}
"""The package's modules, as `clips.read`."""


def imported(path: Path) -> set[str]:
    """The package's modules that a file imports, wherever in it, named as in FILES."""
    return {_module(name) for name in named(path) if name.split(".")[0] == "pnpvideo"}


def named(path: Path) -> set[str]:
    """All that a file imports, wherever in it, as `torch.nn` or `pnpvideo.clips.read.read_clip`."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relative to itself"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def _module(name: str) -> str:
    """The module that holds a name: pnpvideo.clips.read.read_clip is in clips.read."""
    parts = name.split(".")[1:]
    for length in range(len(parts), 0, -1):
        if (module := ".".join(parts[:length])) in FILES:
            return module
        if (module := f"{module}.__init__") in FILES:
            return module
    return "__init__"


def test_every_file_has_its_place() -> None:
    rooms = [room for line in ORDER for room in line]
    assert sorted({name.split(".")[0] for name in FILES}) == sorted(rooms)


def test_rooms_import_only_from_those_above() -> None:
    above: set[str] = set()
    for line in ORDER:
        for module, path in FILES.items():
            room = module.split(".")[0]
            if room in line:
                allowed = above | {room}
                wrong = {name for name in imported(path) if name.split(".")[0] not in allowed}
                assert not wrong, f"{module} imports {wrong}, not above {room}"
        above |= line


def test_no_circles() -> None:
    graph = {name: imported(path) for name, path in FILES.items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" imports ".join(reversed(error.args[1])))


def test_rooms_know_nothing_of_what_their_sentences_exclude() -> None:
    wrong = {
        module
        for what, rooms in SENTENCES.items()
        for module, path in FILES.items()
        if module.split(".")[0] in rooms
        and any(f"{name}.".startswith(f"{what}.") for name in named(path))
    }
    assert not wrong


def test_files_are_short_and_no_docstring_begins_with_what() -> None:
    texts = {module: path.read_text(encoding="utf-8") for module, path in FILES.items()}
    assert not {module for module, text in texts.items() if text.count("\n") > 350}
    assert not {module for module, text in texts.items() if '"""What' in text}


def test_a_grid_needs_no_extra() -> None:
    modules = sorted(f"pnpvideo.{name}" for name in FILES if name.startswith("grid."))
    script = (
        "import importlib, sys\n"
        f"sys.modules.update(dict.fromkeys({EXTRAS}))\n"
        f"for name in {modules}:\n"
        "    importlib.import_module(name.removesuffix('.__init__'))\n"
    )
    run_script(script)


@pytest.mark.parametrize("room", ["errors", "files", "options", "catalogue", "clips", "pixels"])
def test_no_torch(room: str) -> None:
    names = {name for name in FILES if name.split(".")[0] == room} - {
        "clips.as_clip",
        "clips.as_mask",
        "clips.write",
    }
    modules = sorted(f"pnpvideo.{name.removesuffix('.__init__')}" for name in names)
    script = (
        "import importlib, sys\n"
        f"for name in {modules}:\n"
        "    importlib.import_module(name)\n"
        "    assert 'torch' not in sys.modules, f'{name} imports torch'\n"
    )
    run_script(script)


def test_what_is_told_is_logged() -> None:
    # A warning is filtered by the module that it names, which a decorator on the way changes.
    for name, path in FILES.items():
        assert "warnings.warn(" not in path.read_text(encoding="utf-8"), name


@pytest.mark.parametrize("freeze", [False, True])
def test_garbage_is_collected_again_after_imports(freeze: bool, tmp_path: Path) -> None:
    name = f"imported_{freeze}".lower()
    (tmp_path / f"{name}.py").write_text("kept = []")
    sys.path.insert(0, str(tmp_path))
    frozen = gc.get_freeze_count()
    try:
        with without_collection(freeze=freeze):
            assert not gc.isenabled()
            with without_collection(freeze=freeze):  # Commands import within commands.
                pass
            assert not gc.isenabled()
            __import__(name)
        assert gc.isenabled()
        assert (gc.get_freeze_count() > frozen) is freeze
        before = gc.get_freeze_count()
        with pytest.raises(ImportError), without_collection(freeze=True):
            __import__("no_such_module")
        with without_collection(freeze=True):
            __import__(name)  # Nothing new, so what exists now can still be freed.
        assert gc.isenabled()
        assert gc.get_freeze_count() <= before
    finally:
        sys.path.remove(str(tmp_path))
        gc.unfreeze()


def test_a_collector_that_is_off_stays_off() -> None:
    gc.disable()
    try:
        with without_collection():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


@pytest.mark.skipif(sys.platform != "linux", reason="GOMP_SPINCOUNT is GNU's OpenMP, of Linux")
@pytest.mark.parametrize(("given", "spins"), [(None, "0"), ("ACTIVE", "30000000000")])
def test_threads_that_wait_leave_their_core_to_others(
    given: str | None, spins: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    if given is not None:
        monkeypatch.setenv("OMP_WAIT_POLICY", given)
    # libgomp says what it has read when it is loaded, which is with torch.
    monkeypatch.setenv("OMP_DISPLAY_ENV", "VERBOSE")
    script = (
        "import sys\n"
        "from pnpvideo.__main__ import main\n"
        "sys.argv = ['pnpvideo', 'models']\n"
        "assert main() == 0 and 'torch' not in sys.modules\n"
        "import torch\n"
    )
    done = run_script(script)
    assert f"GOMP_SPINCOUNT = '{spins}'" in done.stderr
