"""The rows of a batch: all pieces of the first branch, then all pieces of the second, and so on.

A branch is one text's copy of the pieces: the source's, the negative prompt's, the prompt's.
"""

from torch import Tensor


def rows_of(branches: Tensor) -> Tensor:
    """Return (branches, pieces, ...) as rows: (branches * pieces, ...)."""
    return branches.flatten(0, 1)


def by_branch(rows: Tensor, piece_count: int) -> Tensor:
    """Return rows (branches * pieces, ...) as (branches, pieces, ...)."""
    return rows.view(-1, piece_count, *rows.shape[1:])


def by_prompt(rows: Tensor, prompt_count: int, piece_count: int) -> Tensor:
    """Return rows (prompts * branches * pieces, ...) as (prompts, branches, pieces, ...)."""
    return rows.view(prompt_count, -1, piece_count, *rows.shape[1:])


def repeat_rows(rows: Tensor, branch_count: int) -> Tensor:
    """Return one branch's rows (pieces, ...) for so many branches: (branches * pieces, ...)."""
    return rows.repeat(branch_count, *[1] * (rows.ndim - 1))
