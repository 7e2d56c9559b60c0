"""The folder of an evaluation: what is done, by method and item, and who is at work on what.

run.json                     the settings that results were made with
results/METHOD/...           results in the benchmark's layout
measured/METHOD/ITEM.json    values, with the networks that they are by
claims/                      locks of the processes that share the folder
"""

import json
from dataclasses import dataclass, field
from pathlib import Path

from pnpvideo.files.shared_folder import SharedFolder, unique_name


@dataclass
class Measured:
    """What is known of one method's result of one item.

    values: by column, None where the result gives none. made_with: the networks by column.
    fingerprints: of the networks' weights, by role. features: that SFID compares. shift: what the
    result tells of the pixel shift of all (`Evidence.values`). reason: why there is no result.
    """

    values: dict[str, float | None] = field(default_factory=dict)
    made_with: dict[str, str] = field(default_factory=dict)
    fingerprints: dict[str, str] = field(default_factory=dict)
    features: list[float] | None = None
    shift: list[float] | None = None
    reason: str | None = None


class RunFolder(SharedFolder):
    """What is done of one evaluation."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.make("results", "measured")

    def results(self, method: str) -> Path:
        return self.path / "results" / method

    def read_measured(self, method: str, item: str) -> Measured:
        path = self._measured(method, item)
        try:
            return Measured(**json.loads(path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return Measured()
        except (json.JSONDecodeError, TypeError):  # Of another version; it is measured again.
            return Measured()

    def write_measured(self, method: str, item: str, measured: Measured) -> None:
        self.write_json(self._measured(method, item), measured.__dict__)

    def _measured(self, method: str, item: str) -> Path:
        return self.path / "measured" / unique_name(method) / f"{unique_name(item)}.json"
