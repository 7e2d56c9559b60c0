"""The two kinds of failure that a person can meet. A caller can react to each."""


class InputError(ValueError):
    """An input that cannot be used: a file, an option or a model name. Exit code 2.

    The message is one line: what was wrong, then what to do.
    """


class RunError(RuntimeError):
    """Work that failed although the input was fine: full disk, no network. Exit code 1.

    The message is one line: what was wrong, then what to do.
    """
