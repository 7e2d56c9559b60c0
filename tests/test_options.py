import math
from typing import Any

import pytest
from pydantic import ValidationError

from pnpvideo.errors import InputError
from pnpvideo.options.declared import Lifetime
from pnpvideo.options.method import PnPOptions, Preset
from pnpvideo.options.method_settings import MethodSettings


def test_the_defaults_are_the_papers() -> None:
    options = PnPOptions()
    assert (options.steps, options.tau_f, options.tau_a) == (50, 0.8, 0.5)
    assert (options.guidance_scale, options.noise_share, options.eta) == (7.5, 0, 0)
    assert options.negative_schedule is None
    assert (options.attention_sharing, options.noise_motion) == ("none", False)


@pytest.mark.parametrize(
    "values",
    [
        {"steps": 1},
        {"steps": 999},
        {"steps": 10, "inversion_steps": 10},
        {"steps": 10, "inversion_steps": 1000},
        {"guidance_scale": 0},
        {"guidance_start": 0.5, "guidance_end": 0.5},
        {"tau_f": 0, "tau_a": 1},
        {"negative_alpha": 0, "negative_schedule": "exp"},
        {"noise_share": 1, "eta": 1.0},
        {"keyframe_every": 1, "keyframe_window": 1, "keyframes": "content"},
        {"blend_radius": 0},
        {"attention_sharing": "propagate", "noise_source": "keyframe", "noise_motion": True},
    ],
)
def test_the_limits_themselves_are_allowed(values: dict[str, Any]) -> None:
    options = PnPOptions(**values)
    assert {name: options.plain()[name] for name in values} == values


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"steps": 0}, "steps is 0"),
        ({"steps": 1001}, "steps is 1001"),
        ({"inversion_steps": 49}, "inversion_steps is 49; give a multiple of steps, 50"),
        ({"inversion_steps": 75}, "inversion_steps is 75"),
        ({"inversion_steps": 1050}, "inversion_steps is 1050; give a whole number from 1 to 1000"),
        ({"inversion_steps": 0}, "inversion_steps is 0"),
        ({"inversion_iterations": 0}, "inversion_iterations is 0"),
        ({"guidance_scale": -0.1}, "guidance_scale is -0.1; give a number from 0 to 100"),
        ({"guidance_scale": math.nan}, "guidance_scale is nan"),
        ({"guidance_scale": math.inf}, "guidance_scale is inf"),
        ({"guidance_start": 0.6, "guidance_end": 0.5}, "guidance_start is 0.6; give at most"),
        ({"steps": 1000}, "steps is 1000"),
        ({"negative_schedule": "cubic"}, "negative_schedule is 'cubic'; give constant, linear or"),
        ({"attention_sharing": "all"}, "attention_sharing is 'all'; give none, extended or prop"),
        ({"keyframes": "some"}, "keyframes is 'some'; give uniform, random, sliding or content"),
        ({"noise_source": "x"}, "noise_source is 'x'; give gaussian or keyframe"),
        ({"keyframe_every": 0}, "keyframe_every is 0"),
        ({"keyframe_window": 0}, "keyframe_window is 0"),
        ({"blend_radius": -1}, "blend_radius is -1"),
        *(
            ({name: value}, f"{name} is {value}")
            for name in ("guidance_end", "tau_f", "tau_a", "negative_alpha", "noise_share", "eta")
            for value in (-0.01, 1.01, math.nan, math.inf)
        ),
    ],
)
def test_out_of_range(values: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        PnPOptions(**values)


def test_override_keeps_what_is_none_and_checks_the_rest() -> None:
    options = PnPOptions(steps=10).override({"steps": None, "tau_f": 0.0, "eta": 0.5})
    assert options == PnPOptions(steps=10, tau_f=0.0, eta=0.5)
    with pytest.raises(InputError, match="eta is 2"):
        options.override({"eta": 2})


@pytest.mark.parametrize(
    ("preset", "steps", "inversion_steps"),
    [("best", 20, 60), ("balanced", 12, 36), ("fast", 6, 18), (None, 20, 60)],
)
def test_a_preset_takes_a_share_of_the_steps(
    preset: Preset | None, steps: int, inversion_steps: int
) -> None:
    options = PnPOptions(steps=20, inversion_steps=60, tau_f=0.5)
    expected = PnPOptions(steps=steps, inversion_steps=inversion_steps, tau_f=0.5)
    assert options.at(preset) == expected


def test_a_preset_leaves_at_least_one_step_and_must_be_known() -> None:
    assert PnPOptions(steps=1).at("fast") == PnPOptions(steps=1)
    with pytest.raises(InputError, match="preset is 'slow'; give fast, balanced or best"):
        PnPOptions().at("slow")  # type: ignore[arg-type]


def test_options_do_not_change() -> None:
    with pytest.raises(ValidationError):
        PnPOptions().steps = 3  # type: ignore[misc]


def test_identities_follow_from_what_an_option_changes() -> None:
    options = PnPOptions(steps=20, blend_radius=3, tau_f=1)
    assert options.identity(Lifetime.INVERSION) == {
        "steps": "20",
        "inversion_steps": "20",
        "inversion_iterations": "1",
        "solver": "ddim",
        "exact_source": "False",
        "clip_skip": "0",
        "prompt_weights": "False",
        "start_from": "inverted",
        "control": "None",
        "control_scale": "1.0",
        "control_end": "1.0",
    }
    assert options.identity(Lifetime.FINISHING) == {"blend_radius": "3"}
    sampling = options.identity(Lifetime.SAMPLING)
    assert (sampling["tau_f"], sampling["negative_schedule"]) == ("1.0", "None")
    assert len(options.identity(*Lifetime)) == len(sampling) + 12
    finer = PnPOptions(steps=20, inversion_steps=40)
    assert finer.identity(Lifetime.INVERSION)["inversion_steps"] == "40"


def test_what_a_run_leaves_open_is_the_models_own() -> None:
    own = PnPOptions(steps=20, tau_f=1, inversion_iterations=2)
    assert MethodSettings().resolve(own) == own
    assert MethodSettings(preset="fast", tau_a=1).resolve(own) == own.override(
        {"steps": 6, "tau_a": 1}
    )
    # A value that is given counts, even where it is the paper's default.
    assert MethodSettings(tau_f=0.8).resolve(own).tau_f == 0.8
    # Whether it fits shows with the model's own steps.
    assert MethodSettings(inversion_steps=40).resolve(own).inversion_step_count == 40
    with pytest.raises(InputError, match="inversion_steps is 30; give a multiple of steps, 20"):
        MethodSettings(inversion_steps=30).resolve(own)
    with pytest.raises(InputError, match="inversion_steps is 30; give a multiple of steps, 20"):
        MethodSettings(inversion_steps=30, steps=20)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"method": "pnp"}, "method is 'pnp'; give inject, uniedit, flowedit, flowalign or steer"),
        ({"solver": "heun"}, "solver is 'heun'; give ddim, lookahead, midpoint or fireflow"),
        ({"strength": 1.2}, "strength is 1.2; give a number from 0 to 1"),
        ({"method": "uniedit", "eta": 0.5}, "eta is 0.5; method uniedit does not use it; leave"),
        (
            {"method": "inject", "long_scene_boost": 1.0},
            "long_scene_boost is 1; method inject does",
        ),
        ({"long_scene_boost": 11.0}, "long_scene_boost is 11.0; give a number from 0 to 10"),
        ({"method": "flowedit", "start_from": "noised"}, "start_from is noised; method flowedit"),
        ({"method": "steerflow", "feature_level": 0.4}, "feature_level is 0.4; method steerflow"),
        ({"method": "uniedit", "attention_sharing": "extended"}, "attention_sharing is extended"),
        ({"method": "flowalign", "guidance_end": 0.5}, "guidance_end is 0.5; method flowalign has"),
        ({"method": "flowedit", "exact_source": True}, "exact_source is true; method flowedit inv"),
        (
            {"exact_source": True, "start_from": "noise"},
            "start_from is noise; exact_source true nee",
        ),
        (
            {"exact_source": True, "start_from": "noised"},
            "start_from is noised; exact_source true n",
        ),
        ({"exact_source": True, "solver": "midpoint"}, "solver is midpoint; exact_source true ne"),
        ({"exact_source": True, "inversion_iterations": 2}, "inversion_iterations is 2; exact_so"),
        (
            {"exact_source": True, "feature_level": 0.4},
            "feature_level is 0.4; exact_source true is",
        ),
        ({"exact_source": True, "inversion_steps": 100}, "inversion_steps is 100; exact_source t"),
        ({"solver": "fireflow", "inversion_iterations": 3}, "inversion_iterations is 3; solver fi"),
        ({"solver": "midpoint", "eta": 0.1}, "eta is 0.1; solver midpoint takes steps without"),
    ],
)
def test_options_that_do_not_go_together(values: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as error:
        PnPOptions(**values)
    assert str(error.value).startswith(message)
    with pytest.raises(InputError) as error:
        MethodSettings(**values)
    assert str(error.value).startswith(message)


def test_strength_and_thresholds_are_not_given_together() -> None:
    for values, message in (
        ({"strength": 0.5, "tau_f": 0.3}, "tau_f is 0.3, and strength sets it too; give one of t"),
        ({"method": "uniedit", "tau_a": 0.3}, "tau_a is 0.3; method uniedit injects nothing; giv"),
    ):
        with pytest.raises(InputError) as error:
            MethodSettings(**values)  # type: ignore[arg-type]
        assert str(error.value).startswith(message)


def test_what_a_model_has_of_its_own_gives_way() -> None:
    own = PnPOptions(eta=0.5, noise_share=0.1, inversion_iterations=2, start_level=1, tau_f=1)
    other = MethodSettings(method="uniedit").resolve(own)
    assert (other.eta, other.noise_share, other.inversion_iterations) == (0, 0, 2)
    exact = own.override({"exact_source": True})
    assert (exact.exact_source, exact.inversion_iterations, exact.eta) == (True, 1, 0.5)
    assert not exact.override({"solver": "midpoint", "eta": 0.0}).exact_source
    assert own.override({"strength": 0.5}).thresholds == (0.8, 0.5)
    assert own.override({"strength": 0.5}).override({"tau_f": 0.2}).thresholds == (0.2, 0.5)
    # What is asked for is not given up for what the model has.
    with pytest.raises(InputError, match=r"eta is 0\.3; method uniedit does not use it"):
        other.override({"eta": 0.3})


def test_methods_without_an_inversion_share_what_they_keep() -> None:
    kept = [
        PnPOptions(**values).identity(Lifetime.INVERSION)
        for values in (
            {"method": "flowedit"},
            {"method": "flowalign"},
            {"start_from": "noised"},
            {"method": "uniedit"},
            {},
        )
    ]
    assert kept[0] == kept[1] == kept[2] != kept[3] == kept[4]
