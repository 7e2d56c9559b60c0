"""The folder of an evaluation: finished work by method and item, and locks.

run.json                     the settings of the results
results/METHOD/...           results in the benchmark's layout
measured/METHOD/ITEM.json    values, and the networks that measured them
claims/                      locks of the processes that share the folder
"""

from dataclasses import dataclass, field
from pathlib import Path

from pnpvideo.errors import InputError
from pnpvideo.evaluation.readers.json_file import read_object
from pnpvideo.files.shared_folder import SharedFolder, unique_name


@dataclass
class MeasuredItem:
    """The measures of one method's result of one item.

    values: by column, None if the result gives no value. made_with: the networks by column.
    fingerprints: of the networks' weights, by role. features: for SFID. shift: the result's
    evidence for the shift of all results (`Evidence.values`). reason: why there is no result.
    """

    values: dict[str, float | None] = field(default_factory=dict)
    made_with: dict[str, str] = field(default_factory=dict)
    fingerprints: dict[str, str] = field(default_factory=dict)
    features: list[float] | None = None
    shift: list[float] | None = None
    reason: str | None = None


class RunFolder(SharedFolder):
    """The folder of one evaluation."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.make("results", "measured")

    def results(self, method: str) -> Path:
        return self.path / "results" / method

    def read_measured(self, method: str, item: str) -> MeasuredItem:
        path = self._measured_path(method, item)
        try:
            return MeasuredItem(**read_object(path))  # type: ignore[arg-type]
        except (InputError, TypeError):  # None yet, or from another version: measure again.
            return MeasuredItem()

    def write_measured(self, method: str, item: str, measured: MeasuredItem) -> None:
        self.write_json(self._measured_path(method, item), measured.__dict__)

    def _measured_path(self, method: str, item: str) -> Path:
        return self.path / "measured" / unique_name(method) / f"{unique_name(item)}.json"
