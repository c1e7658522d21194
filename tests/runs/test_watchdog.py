import math

import pytest

from dfw.config.settings import TrainerSettings
from dfw.errors import DivergedError
from dfw.runs.watchdog import PATIENCE, Watchdog

SETTINGS = TrainerSettings(steps=100, watch_from=0.1)


def test_nan_names_quantity_and_step():
    watchdog = Watchdog(SETTINGS, scene=True)
    with pytest.raises(DivergedError, match=r"losses\.sds is nan since step 3; try a lower optimizer\.lr"):
        watchdog.look(3, {"opacity": 0.5, "losses.sds": math.nan})


@pytest.mark.parametrize(("opacity", "words"), [(0.0015, "scene is empty"), (0.997, "fills every pixel")])
def test_empty_and_full_scenes_stop_after_patience(opacity, words):
    watchdog = Watchdog(SETTINGS, scene=True)
    for step in range(10, 30):
        watchdog.look(step, {"opacity": opacity})
    with pytest.raises(DivergedError, match=rf"{words}.* since step 10"):
        watchdog.look(30, {"opacity": opacity})


def test_ten_pixels_of_an_object_or_of_background_are_enough():
    watchdog = Watchdog(SETTINGS, scene=True)
    for step in range(100):
        watchdog.look(step, {"opacity": 10 / 64**2 if step < 50 else 1 - 25 / 64**2})


def test_a_scene_that_recovers_is_left_alone():
    watchdog = Watchdog(SETTINGS, scene=True)
    for step in range(100):
        watchdog.look(step, {"opacity": 0.0 if step % PATIENCE else 0.2})


def test_nothing_is_said_before_watch_from_or_about_a_plane():
    early = Watchdog(TrainerSettings(steps=1000, watch_from=0.5), scene=True)
    plane = Watchdog(SETTINGS, scene=False)
    for step in range(100):
        early.look(step, {"opacity": 0.0})
        plane.look(step, {"opacity": 1.0})
