"""MagicBrush's test set (Zhang et al. 2023, arXiv 2306.10012): sessions of successive edits.

    edit_sessions.json          id -> list of input, mask, output, instruction
    images/ID/                  ID-input.png, ID-mask1.png, ID-output1.png, ID-mask2.png, ...
    global_descriptions.json    id -> picture -> caption
    local_descriptions.json     the same for the edited part

Single turn: each edit starts from the authors' picture. Multi turn: each edit starts from the
method's previous result, and a session's last one is scored. Results have the names of MagicBrush's
evaluation: ID/ID_1, then ID/ID_inde_2 and ID/ID_iter_2.
"""

from collections.abc import Mapping
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from pnpvideo.errors import InputError
from pnpvideo.evaluation.items import (
    Benchmark,
    BenchmarkEntry,
    Collector,
    Item,
    ReadRequest,
    UnusableError,
    find_picture,
    first_problem,
)
from pnpvideo.evaluation.masks import MaskPictures
from pnpvideo.evaluation.readers.json_file import read_object

SINGLE, MULTI = "single turn", "multi turn"
Captions = Mapping[str, Mapping[str, str]]


class _Turn(BenchmarkEntry):
    input: str
    output: str
    instruction: str
    mask: str | None = None


def read(data: Path, request: ReadRequest) -> Benchmark:
    """Return the items of all sessions: each single turn, then the chain of a session's turns."""
    prompts = _captions(data / "global_descriptions.json")
    captions = _captions(request.captions or data / "local_descriptions.json") or prompts
    if request.captions is not None and not captions:
        raise InputError(f"{request.captions} cannot be read: it does not exist")
    collector = Collector()
    sessions = read_object(data / "edit_sessions.json")
    for name in sessions.repeated:
        with collector.entry(name):
            raise UnusableError("this id occurs twice; the first entry is used")
    for name, value in sessions.items():
        with collector.entry(name):
            turns = TypeAdapter(list[_Turn]).validate_python(value)
            if not turns:
                raise UnusableError("it has no turn")
            session = _Session(data, name, prompts.get(name, {}), captions.get(name, {}))
            for item in session.items(turns):
                with collector.entry(item.id):
                    collector.add(item)
    return collector.done()


class _Session:
    """The items of one session. captions: by the name of a picture."""

    def __init__(
        self, data: Path, name: str, prompts: Mapping[str, str], captions: Mapping[str, str]
    ) -> None:
        candidates = [data / "images" / name, data / name, data / "images"]
        self.folder = next((path for path in candidates if path.is_dir()), data)
        self.name, self.prompts, self.captions = name, prompts, captions

    def items(self, turns: list[_Turn]) -> list[Item]:
        """Return the single-turn, then the multi-turn items. Raise UnusableError for lost files."""
        single = [self._item(turn, number) for number, turn in enumerate(turns, 1)]
        chain = [self._chained(turn, number, len(turns)) for number, turn in enumerate(turns, 1)]
        return [*single, *chain]

    def _chained(self, turn: _Turn, number: int, count: int) -> Item:
        first = number == 1
        return self._item(
            turn,
            number,
            result=f"{self.name}/{self.name}_{'1' if first else f'iter_{number}'}",
            name=f"{self.name} multi turn {number}",
            after=None if first else f"{self.name} multi turn {number - 1}",
            edit_type=MULTI,
            scored=number == count,
        )

    def _item(
        self,
        turn: _Turn,
        number: int,
        *,
        name: str | None = None,
        result: str | None = None,
        after: str | None = None,
        edit_type: str = SINGLE,
        scored: bool = True,
    ) -> Item:
        mask = find_picture(self.folder, turn.mask) if turn.mask else None
        default_result = f"{self.name}/{self.name}_{'1' if number == 1 else f'inde_{number}'}"
        return Item(
            id=name or f"{self.name} turn {number}",
            source=find_picture(self.folder, turn.input) if after is None else None,
            prompt=self.prompts.get(turn.output) or turn.instruction,
            source_prompt=self.prompts.get(turn.input, "") if after is None else "",
            caption=self.captions.get(turn.output, ""),
            edit_type=edit_type,
            # The authors' masks are the picture with a hole in the part to edit.
            mask=None if mask is None else MaskPictures(path=mask, masked=True),
            reference=find_picture(self.folder, turn.output),
            result=result or default_result,
            after=after,
            group=f"session {self.name}",
            scored=scored,
        )


def _captions(path: Path) -> Captions:
    """Read captions by session and picture; return none if the file does not exist."""
    if not path.is_file():
        return {}
    sessions = read_object(path)
    if not all(isinstance(value, dict) for value in sessions.values()):
        raise InputError(f"{path} does not hold captions by session and picture")
    try:
        return TypeAdapter(dict[str, dict[str, str]]).validate_python(sessions)
    except ValidationError as error:
        raise InputError(f"{path} {first_problem(error)}") from None
