"""Whatever is killed, whenever: the data set, the parameters, the metrics and the MLflow run are those of a quiet run.

A seeded loop draws a fault and the time of it. MTL_RAY_CHAOS_KILLS says how many (two by default, ten to be thorough),
MTL_RAY_CHAOS_SEED which; training and preparing have as many each.
"""

import time
from collections.abc import Callable

import pytest

from mtl_ray.storage import Folder
from tests.cluster.machines import Driver
from tests.cluster.world import (
    KILLS,
    SEED,
    World,
    assert_nothing_left,
    assert_prepared,
    assert_trained,
    checkpoints,
    runs_of,
)
from tests.support import wait_for


def strike(world: World, fault: Callable[[Driver], bool | None], driver: Driver, most: float) -> bool | None:
    """Let a fault happen at a random time; None if the command was faster."""
    end = time.monotonic() + world.random.uniform(0, most)
    while time.monotonic() < end and not driver.ended:
        time.sleep(0.05)
    if driver.ended:
        return None
    began = time.monotonic()
    again = fault(driver)
    happened = "too late" if again is None else f"took {time.monotonic() - began:.0f} s"
    print(f"{fault.__name__} ({happened})", flush=True)
    return again


@pytest.mark.long
def test_prepare_ends_with_the_same_data_set(world: World, trained):
    output = f"s3://bucket/prepared?{world.options}"
    file = world.write(data__output=output, training__output=f"s3://bucket/none?{world.options}")
    print(f"MTL_RAY_CHAOS_SEED={SEED}")
    faults, happened = world.faults(), 0
    while happened < KILLS:
        Folder(output).delete()
        driver = Driver(world.machines, world.folder, "prepare", str(file))
        wait_for(lambda driver=driver: Folder(output).exists() or driver.ended)
        again = strike(world, next(faults), driver, 6)
        happened += again is not None
        if again:
            driver = Driver(world.machines, world.folder, "prepare", str(file))
        result = driver.result()
        assert_prepared(Folder(output), result, trained, again=bool(again))
    assert_nothing_left(world)


@pytest.mark.long
def test_training_ends_with_the_same_parameters_and_metrics(world: World, trained):
    file = world.write(
        data__output=f"s3://bucket/datasets?{world.options}",
        training__output=f"s3://bucket/runs?{world.options}",
        training__checkpoint_steps=7,
        tracking__uri=world.uri,
    )
    Driver(world.machines, world.folder, "prepare", str(file)).result()
    print(f"MTL_RAY_CHAOS_SEED={SEED}")
    faults, happened = world.faults(world.mlflow, world.memory), 0
    while happened < KILLS:
        before = runs_of(world)
        driver = Driver(world.machines, world.folder, "train", str(file))
        while True:
            wait_for(lambda driver=driver, before=before: checkpoints(world, before) or driver.ended)
            again = strike(world, next(faults), driver, 8) if happened < KILLS else None
            happened += again is not None
            if again is None:
                break
            if again:
                name = (runs_of(world) - before).pop()
                driver = Driver(world.machines, world.folder, "train", str(file), "--resume", name)
        result = driver.result()
        assert_trained(world, result, trained)
    assert_nothing_left(world)
