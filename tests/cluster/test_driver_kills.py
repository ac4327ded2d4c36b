"""A driver that is killed at random times within the fit ends with the same results when it is given again.

MTL_RAY_CHAOS_KILLS says how often, MTL_RAY_CHAOS_SEED when; training and preparing are killed as often each. A kill
that came before or after the fit does not count.
"""

import time
from contextlib import suppress

import pytest

from mtl_ray.errors import InputError
from mtl_ray.storage import Folder
from tests.cluster.machines import Driver
from tests.cluster.world import (
    EPOCHS,
    KILLS,
    SEED,
    World,
    assert_nothing_left,
    assert_prepared,
    assert_trained,
    reported,
    run_of,
    runs_of,
)
from tests.support import wait_for

FITTING, ENCODING = "fitting on", "encoding"
"""What `prepare` says when it begins to fit the data, and when it has done so."""


def seconds_of_fit(driver: Driver, most: float = 60) -> float:
    """Wait until `prepare` has fitted the data, but at most some seconds of it; return these."""
    wait_for(lambda: FITTING in driver.said() or driver.ended)
    began = time.monotonic()
    wait_for(lambda: ENCODING in driver.said() or driver.ended or time.monotonic() - began > most)
    return time.monotonic() - began


def wait_until_past(world: World, driver: Driver, before: set[str], aim: tuple[int, int]) -> str:
    """Wait until the new run has reported a step after `aim`; return its name."""

    def past() -> str | None:
        assert not driver.ended, driver.said()[-3000:]
        with suppress(InputError):  # what the server of the test gives while it is written over
            return next((name for name in runs_of(world) - before if reported(run_of(world, name)) > aim), None)

    return wait_for(past)


@pytest.mark.long
@pytest.mark.timeout(180 * (KILLS + 1))
def test_preparing_ends_with_the_same_data_set(world: World, trained):
    print(f"MTL_RAY_CHAOS_SEED={SEED}")
    output = f"s3://bucket/refitted?{world.options}"
    file = world.write(data__output=output, training__output=f"s3://bucket/none?{world.options}")
    driver = Driver(world.machines, world.folder, "prepare", str(file))
    seconds, kills = seconds_of_fit(driver), 0
    assert_prepared(Folder(output), driver.result(), trained, again=False)
    while kills < KILLS:
        Folder(output).delete()
        driver = Driver(world.machines, world.folder, "prepare", str(file))
        moment = world.random.uniform(0, seconds)
        seconds_of_fit(driver, most=moment)
        driver.kill()
        within = FITTING in driver.said() and ENCODING not in driver.said()
        kills += within
        print(f"killed {moment:.2f} of {seconds:.2f} s after the fit began{'' if within else ': too late'}", flush=True)
        result = Driver(world.machines, world.folder, "prepare", str(file)).result(600)
        assert_prepared(Folder(output), result, trained, again=True)
    assert_nothing_left(world)


@pytest.mark.long
@pytest.mark.timeout(180 * (KILLS + 1))
def test_training_ends_with_the_same_parameters_and_metrics(world: World, trained):
    print(f"MTL_RAY_CHAOS_SEED={SEED}")
    file = world.write(
        data__output=f"s3://bucket/datasets?{world.options}",
        training__output=f"s3://bucket/runs?{world.options}",
        training__checkpoint_steps=7,
        tracking__uri=world.uri,
    )
    kills = 0
    while kills < KILLS:
        before, reached = runs_of(world), (0, 0)
        driver = Driver(world.machines, world.folder, "train", str(file))
        # As long as an epoch is left that begins after what the last attempt has reached, the run is killed again.
        while kills < KILLS and reached[0] < EPOCHS - 1:
            aim = max(reached, (world.random.randint(reached[0], EPOCHS - 1), 0))
            name = wait_until_past(world, driver, before, aim)
            time.sleep(world.random.uniform(0, 1))
            driver.kill()
            reached = reported(run_of(world, name))
            kills += reached < (EPOCHS, 0)
            print(f"killed after {reached[0]} of {EPOCHS} epochs and {reached[1]} steps", flush=True)
            driver = Driver(world.machines, world.folder, "train", str(file), "--resume", name)
        assert_trained(world, driver.result(600), trained)
    assert_nothing_left(world)
