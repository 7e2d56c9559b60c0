"""A batch's table on a terminal, and the warnings and errors that are logged meanwhile."""

import os
import pty
import re
import select
import termios
from pathlib import Path

from command import save_frames
from forked import start
from test_batch import write_lines

WARNING = "a.png: negative_prompt has no effect at guidance_scale 1; give a larger one"
ERROR = "b.png failed: there is no model '{}'; give"


def batch_of(folder: Path, model: Path) -> tuple[str, ...]:
    """A batch with a job that warns and a job that fails."""
    save_frames(folder, 1)
    job = {"source": "source0.png", "prompt": "a stone", "steps": 2, "model": str(model)}
    warns = {"guidance_scale": 1, "negative_prompt": "a tree", "output": "a.png"}
    fails = {"model": str(folder / "gone"), "output": "b.png"}
    write_lines(folder / "jobs.jsonl", job | warns, job | fails)
    return ("batch", "jobs.jsonl", "-o", "out", "--log-file", "log.txt")


def test_warnings_and_errors_reach_a_redirected_stderr(tiny_model: Path, tmp_path: Path) -> None:
    done = start(*batch_of(tmp_path, tiny_model), cwd=tmp_path).wait()
    assert done.returncode == 1
    lines = done.stderr.splitlines()
    assert f"pnpvideo: {WARNING}" in lines
    assert any(ERROR.format(tmp_path / "gone") in line for line in lines)


def test_warnings_and_errors_stand_above_the_table(tiny_model: Path, tmp_path: Path) -> None:
    shown = on_a_terminal(*batch_of(tmp_path, tiny_model), cwd=tmp_path)
    patterns = (
        re.escape(f"pnpvideo: {WARNING}") + "$",
        re.escape(f"pnpvideo: {ERROR.format(tmp_path / 'gone')}"),
        "job +state +frames +time",
    )
    places = [[i for i, line in enumerate(shown) if re.match(one, line)] for one in patterns]
    assert list(map(len, places)) == [1, 1, 1], shown
    (warning,), (error,), (table,) = places
    assert max(warning, error) < table, shown
    assert any(line.startswith("a.png  done") for line in shown[table:]), shown
    # What goes to a log file still does.
    log = (tmp_path / "log.txt").read_text()
    assert f"WARNING {WARNING}" in log
    assert "ERROR b.png failed" in log


def on_a_terminal(*arguments: str, cwd: Path) -> list[str]:
    """Run the command with stderr on a terminal; return the lines that stand there at its end."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (50, 400))
    # pytest-xdist sets the width of its own terminal for all that its workers start.
    environment = {"TERM": "xterm", "COLUMNS": "400", "LINES": "50"}
    output, nothing = b"", Path(os.devnull)
    process = start(
        *arguments, cwd=cwd, terminal=os.ttyname(theirs), stdout=nothing, environment=environment
    )
    ended = False
    while not ended:
        ended = process.exit_code is not None
        while select.select([ours], [], [], 0.1)[0]:
            output += os.read(ours, 4096)
    os.close(theirs)
    os.close(ours)
    assert process.exit_code == 1, output
    return screen(output.decode())


def screen(output: str) -> list[str]:
    """The lines of a terminal after this output: text, \\r, \\n, and the codes that rich uses."""
    lines, row, column = [""], 0, 0
    for code, count, kind, text in re.findall(
        r"(\x1b\[\??([0-9;]*)([A-Za-z]))|([^\x1b])", output, re.DOTALL
    ):
        if code:
            if kind == "A":
                row = max(0, row - int(count or 1))
            elif kind == "K":
                assert count == "2", code
                lines[row] = ""
            else:
                assert kind in "mhl", code  # Colours and the cursor's look.
        elif text == "\r":
            column = 0
        elif text == "\n":
            row, column = row + 1, 0
            lines += [""] * (row == len(lines))
        else:
            line = lines[row].ljust(column)
            lines[row] = line[:column] + text + line[column + 1 :]
            column += 1
    return [line.rstrip() for line in lines]
