"""The queue of the pieces of work that no worker has yet, in which every step costs the same."""

from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Piece:
    """A job by its number, or one of its spans, which are made before the job."""

    number: int
    span: int | None = None


class Queue:
    """Pieces in order, also by the model that each is for.

    Plain lists would have to be searched at every step, which takes minutes for 10,000 jobs.
    """

    def __init__(self, model_of: Callable[[Piece], str]) -> None:
        self._model_of = model_of
        self._all: OrderedDict[Piece, None] = OrderedDict()
        self._by_model: defaultdict[str, OrderedDict[Piece, None]] = defaultdict(OrderedDict)

    def __bool__(self) -> bool:
        return bool(self._all)

    def __contains__(self, piece: Piece) -> bool:
        return piece in self._all

    def add(self, pieces: Iterable[Piece]) -> None:
        """Put pieces last."""
        for piece in pieces:
            self._all[piece] = self._by_model[self._model_of(piece)][piece] = None

    def put_first(self, piece: Piece) -> None:
        self.add([piece])
        for pieces in (self._all, self._by_model[self._model_of(piece)]):
            pieces.move_to_end(piece, last=False)

    def remove(self, pieces: Iterable[Piece]) -> None:
        """Remove those of the pieces that are in the queue."""
        for piece in pieces:
            self._all.pop(piece, None)
            self._by_model[self._model_of(piece)].pop(piece, None)

    def take(self, model: str | None, is_ready: Callable[[Piece], bool]) -> Piece | None:
        """Remove and return the first ready piece, of this model if possible; None if none is."""
        own = self._by_model.get(model or "", OrderedDict())
        for pieces in (own, self._all):
            if (piece := next(filter(is_ready, pieces), None)) is not None:
                self.remove([piece])
                return piece
        return None
