"""MagicBrush's test set (Zhang et al. 2023, arXiv 2306.10012): sessions of edits, each on the last.

    edit_sessions.json          id -> list of input, mask, output, instruction
    images/ID/                  ID-input.png, ID-mask1.png, ID-output1.png, ID-mask2.png, ...
    global_descriptions.json    id -> picture -> caption
    local_descriptions.json     the same, of the edited part

Single turn: each edit starts from the authors' picture. Multi turn: from the own result before, and
the last one of a session counts. Results are named as their evaluation wants them: ID/ID_1, then
ID/ID_inde_2 and ID/ID_iter_2.
"""

from collections.abc import Mapping
from pathlib import Path

from pydantic import TypeAdapter

from pnpvideo.errors import InputError
from pnpvideo.evaluation.items import (
    Benchmark,
    Collector,
    Entry,
    Item,
    ReadRequest,
    UnusableError,
    find_picture,
)
from pnpvideo.evaluation.masks import MaskPictures
from pnpvideo.evaluation.readers.json_file import read_object

SINGLE, MULTI = "single turn", "multi turn"
Captions = Mapping[str, Mapping[str, str]]


class _Turn(Entry):
    input: str
    output: str
    instruction: str
    mask: str | None = None


def read(data: Path, request: ReadRequest) -> Benchmark:
    """The items of all sessions: each turn by itself, then the chain of a session's turns."""
    prompts = _captions(data / "global_descriptions.json")
    captions = _captions(request.captions or data / "local_descriptions.json") or prompts
    if request.captions is not None and not captions:
        raise InputError(f"{request.captions} cannot be read: there is no such file")
    collector = Collector()
    sessions = read_object(data / "edit_sessions.json")
    for name in sessions.repeated:
        with collector.entry(name):
            raise UnusableError("this id comes twice; the first one counts")
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
        inside = [data / "images" / name, data / name, data / "images"]
        self.folder = next((path for path in inside if path.is_dir()), data)
        self.name, self.prompts, self.captions = name, prompts, captions

    def items(self, turns: list[_Turn]) -> list[Item]:
        """Those of single turn, then those of multi turn. UnusableError where a picture is gone."""
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
        usual = f"{self.name}/{self.name}_{'1' if number == 1 else f'inde_{number}'}"
        return Item(
            id=name or f"{self.name} turn {number}",
            source=find_picture(self.folder, turn.input) if after is None else None,
            prompt=self.prompts.get(turn.output) or turn.instruction,
            source_prompt=self.prompts.get(turn.input, "") if after is None else "",
            caption=self.captions.get(turn.output, ""),
            edit_type=edit_type,
            mask=None if mask is None else MaskPictures(path=mask),
            reference=find_picture(self.folder, turn.output),
            result=result or usual,
            after=after,
            group=f"session {self.name}",
            scored=scored,
        )


def _captions(path: Path) -> Captions:
    """By session and picture; none where there is no such file."""
    if not path.is_file():
        return {}
    found = read_object(path)
    if not all(isinstance(value, dict) for value in found.values()):
        raise InputError(f"{path} holds no captions by session and picture")
    return TypeAdapter(dict[str, dict[str, str]]).validate_python(found)
