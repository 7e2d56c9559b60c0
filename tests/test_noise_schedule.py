"""Schedules: levels, what a network is given at each, and where sampling meets inversion."""

import pytest

from pnpvideo.models.noise_schedule import Level, NoiseSchedule, flow_schedule

SIGMAS = (1.0, 0.75, 0.4, 0.0)


def test_a_flow_schedule() -> None:
    schedule = flow_schedule(SIGMAS)
    assert schedule.prediction_type == "flow"
    assert schedule.timesteps == (1000.0, 750.0, 400.0)
    assert [(level.signal, level.noise) for level in schedule.levels] == [
        (0.0, 1.0),
        (0.25, 0.75),
        (0.6, 0.4),
        (1.0, 0.0),
    ]
    assert schedule.inversion_timesteps == schedule.timesteps
    assert schedule.inversion_levels == schedule.levels
    assert schedule.inversion_places == (0, 1, 2)


def test_what_the_network_is_given_is_the_models_own() -> None:
    """Such as 1 - sigma, or 1000 sigma cut to whole numbers."""
    assert flow_schedule(SIGMAS, lambda sigma: 1 - sigma).timesteps == (0.0, 0.25, 0.6)
    assert flow_schedule((0.9999, 0.3333, 0.0), lambda s: int(1000 * s)).timesteps == (999, 333)


@pytest.mark.parametrize("parts", [1, 2, 5])
def test_finer_inversion_passes_through_every_sampling_level(parts: int) -> None:
    schedule = flow_schedule(SIGMAS, parts=parts)
    assert schedule.inversion_places == tuple(parts * i for i in range(3))
    for i, place in enumerate(schedule.inversion_places):
        assert schedule.inversion_levels[place] == schedule.levels[i]
        assert schedule.inversion_timesteps[place] == schedule.timesteps[i]
    assert schedule.inversion_levels[-1] == schedule.levels[-1]
    noises = [level.noise for level in schedule.inversion_levels]
    assert noises == sorted(noises, reverse=True)
    assert len(schedule.inversion_timesteps) == len(noises) - 1 == 3 * parts


@pytest.mark.parametrize("sigmas", [(1.0, 0.5), (0.5, 0.7, 0.0), (1.2, 0.5, 0.0), (0.5, 0.5, 0.0)])
def test_sigmas_that_do_not_descend_to_zero_are_refused(sigmas: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="sigmas must descend"):
        flow_schedule(sigmas)


def schedule_of(inversion: tuple[float, ...]) -> NoiseSchedule:
    levels = tuple(Level.of(signal=1 - s, noise=s) for s in (1.0, 0.5, 0.0))
    finer = tuple(Level.of(signal=1 - s, noise=s) for s in (*inversion, 0.0))
    return NoiseSchedule(
        timesteps=(9, 5),
        levels=levels,
        inversion_timesteps=inversion,
        inversion_levels=finer,
        prediction_type="flow",
    )


def test_inversion_has_to_meet_every_sampling_level() -> None:
    assert schedule_of((1.0, 0.8, 0.7, 0.5, 0.1)).inversion_places == (0, 3)
    with pytest.raises(ValueError, match="no step of the inversion ends at"):
        _ = schedule_of((1.0, 0.8, 0.6)).inversion_places


def test_timesteps_and_levels_fit_together() -> None:
    schedule = schedule_of((1.0, 0.5))
    with pytest.raises(ValueError, match="2 timesteps need 3 levels"):
        NoiseSchedule(
            timesteps=(9, 5),
            levels=schedule.levels[1:],
            inversion_timesteps=(9, 5),
            inversion_levels=schedule.levels,
            prediction_type="flow",
        )


def test_the_timestep_from_a_step_on() -> None:
    schedule = schedule_of((1.0, 0.5))
    assert [schedule.timestep_from(step) for step in range(3)] == [9, 5, float("-inf")]
