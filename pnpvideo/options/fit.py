"""Which options do not go together, declared once."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import get_args

from pnpvideo.errors import InputError
from pnpvideo.options.edit_method import (
    INJECT,
    OF_CLEAN,
    SAMPLING_SOLVERS,
    UNGUIDED,
    MethodName,
)

Values = Mapping[str, object]


@dataclass(frozen=True, kw_only=True)
class Rule:
    """Two options that do not go together for some of their values.

    clash: whether they do not go together, by the values of all options. free: the value of
    `second` that goes with every `first`. freed: the value of `first` that goes with every
    `second`; None if a model's own `first` is kept even if a `second` is asked for. why: the end
    of the message.
    """

    first: str
    second: str
    clash: Callable[[Values], bool]
    free: object
    freed: object = None
    why: str


def _of_method(methods: Collection[str], second: str, free: object, why: str) -> Rule:
    return Rule(
        first="method",
        second=second,
        clash=lambda values: values["method"] in methods and values[second] != free,
        free=free,
        why=why,
    )


def _of_exact_source(
    second: str, free: object, fits: Callable[[Values], bool], remedy: str
) -> Rule:
    return Rule(
        first="exact_source",
        second=second,
        clash=lambda values: values["exact_source"] is True and not fits(values),
        free=free,
        freed=False,
        why=f"needs to know where the inversion evaluated the network; {remedy}",
    )


def _of_middles(second: str, free: object, why: str) -> Rule:
    return Rule(
        first="solver",
        second=second,
        clash=lambda values: values["solver"] in SAMPLING_SOLVERS and values[second] != free,
        free=free,
        why=why,
    )


_OTHERS = ("uniedit", "flowedit", "flowalign", "steerflow")
_INJECT = "does not use it; leave it out, or give method inject"

RULES: tuple[Rule, ...] = (
    *(
        _of_method(_OTHERS, name, free, _INJECT)
        for name, free in {
            "feature_level": 1.0,
            "start_from": "inverted",
            "start_level": 1.0,
            "negative_schedule": None,
            "noise_share": 0.0,
            "eta": 0.0,
            "attention_sharing": "none",
        }.items()
    ),
    *(
        _of_method(UNGUIDED, name, free, "has no guidance by a negative prompt; leave it out")
        for name, free in {
            "guidance_start": 0.0,
            "guidance_end": 1.0,
            "guidance_rescale": 0.0,
        }.items()
    ),
    _of_method(
        [name for name in get_args(MethodName) if name not in OF_CLEAN],
        "long_scene_boost",
        0.0,
        "does not use it; leave it out, or give method flowedit or flowalign",
    ),
    _of_method(OF_CLEAN, "exact_source", False, "inverts nothing; leave it out"),
    _of_exact_source(
        "start_from",
        "inverted",
        lambda values: values["start_from"] == "inverted",
        "leave it out",
    ),
    _of_exact_source(
        "solver",
        "ddim",
        lambda values: values["solver"] in ("ddim", "lookahead"),
        "give ddim or lookahead",
    ),
    _of_exact_source(
        "inversion_iterations",
        1,
        lambda values: values["inversion_iterations"] == 1,
        "leave it out",
    ),
    _of_exact_source(
        "inversion_steps",
        None,
        lambda values: values["inversion_steps"] in (None, values["steps"]),
        "leave it out",
    ),
    Rule(
        first="exact_source",
        second="feature_level",
        clash=lambda values: values["exact_source"] is True and values["feature_level"] != 1,
        free=1.0,
        freed=False,
        why="is exact with features of each step's own level alone; leave it out",
    ),
    _of_middles("inversion_iterations", 1, "does not iterate; leave it out"),
    _of_middles("eta", 0.0, "takes steps without noise; leave it out"),
    _of_middles("attention_sharing", "none", "evaluates the network twice in a step; leave it out"),
)


def check_fit(values: Values, decided: Collection[str]) -> None:
    """Raise InputError for the first two options that do not go together.

    decided: the options that are final; others may still change.
    """
    for rule in RULES:
        if {rule.first, rule.second} <= set(decided) and rule.clash(values):
            first, second = (_plain(values[name]) for name in (rule.first, rule.second))
            raise InputError(f"{rule.second} is {second}; {rule.first} {first} {rule.why}")
    _check_steps(values, decided)
    _check_noise(values, decided)


def _check_steps(values: Values, decided: Collection[str]) -> None:
    """Raise InputError unless counts and shares of steps fit together."""
    steps, inverted = values["steps"], values["inversion_steps"]
    assert isinstance(steps, int)
    both = {"steps", "inversion_steps"} <= set(decided)
    if both and isinstance(inverted, int) and inverted % steps:
        raise InputError(f"inversion_steps is {inverted}; give a multiple of steps, {steps}")
    start, end = values["guidance_start"], values["guidance_end"]
    assert isinstance(start, float)
    assert isinstance(end, float)
    if start > end and {"guidance_start", "guidance_end"} <= set(decided):
        raise InputError(f"guidance_start is {start}; give at most guidance_end, {end}")


def _check_noise(values: Values, decided: Collection[str]) -> None:
    """Raise InputError unless noise can be mixed into what sampling starts from."""
    start_from, level, share = (
        values[name] for name in ("start_from", "start_level", "noise_share")
    )
    assert isinstance(level, float)
    assert isinstance(share, float)
    if start_from == "noise" and level < 1 and {"start_from", "start_level"} <= set(decided):
        raise InputError(
            f"start_level is {level:g}, and noise alone has one level only; leave it out, or give "
            "start_from noised"
        )
    if share == 0 or not {"noise_share", "start_from", "start_level"} <= set(decided):
        return
    if start_from != "inverted":
        raise InputError(
            f"noise_share is {share:g}; it mixes noise into inverted noise, and start_from is "
            f"{start_from}; give one of them"
        )
    if level < 1:
        raise InputError(
            f"noise_share is {share:g}; it is mixed into the noise of the first level, and "
            f"start_level is {level:g}; give one of them"
        )


def fitted(values: Values, asked_for: Collection[str]) -> dict[str, object]:
    """Adapt the options that were not asked for to those that were, and return all of them.

    A model's own defaults then do not get in the way: its eta is off with another method.
    """
    result = dict(values)
    for rule in RULES:
        if rule.clash(result):
            if rule.second not in asked_for:
                result[rule.second] = rule.free
            elif rule.first not in asked_for and rule.freed is not None:
                result[rule.first] = rule.freed
    if {"tau_f", "tau_a"} & set(asked_for) and "strength" not in asked_for:
        result["strength"] = None
    return result


def check_dials(values: Values, given: Collection[str]) -> None:
    """Raise InputError if thresholds are given with a strength, or with a method without them."""
    for name in ("tau_f", "tau_a"):
        if name not in given:
            continue
        if "method" in given and values["method"] != INJECT:
            raise InputError(
                f"{name} is {_plain(values[name])}; method {values['method']} injects nothing; "
                "give strength in its place"
            )
        if "strength" in given:
            raise InputError(
                f"{name} is {_plain(values[name])}, and strength sets it too; give one of them"
            )


def _plain(value: object) -> str:
    """Return a value as it is written on the command line and in a settings file."""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)
