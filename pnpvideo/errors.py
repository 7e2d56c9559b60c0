"""The two kinds of failure a person can meet, told apart so that a caller can react to them."""


class InputError(ValueError):
    """What the user gave cannot be used: a file, an option, a model name. Exit code 2.

    The message is one line: what was wrong, then what to do.
    """


class RunError(RuntimeError):
    """What the user gave was fine, and the work failed: full disk, no network. Exit code 1.

    The message is one line: what was wrong, then what to do.
    """
