"""The street filmed by a camera with distortion: its rays invert Brown's formula, its pictures straighten to others."""

import dataclasses

import cv2
import numpy as np
import pytest

from datasets import cameras
from datasets.cameras import Camera
from datasets.frames_preparation.geometry import Geometry
from demo.street import Drive, Rig
from demo.street.film import Film, slopes

BENT = Camera(160.0, 160.0, 134.0, 106.0, 320, 192, (-0.25, 0.05, 0.001, -0.002, 0.0))


def test_the_rays_of_pixels_come_back_to_them():
    x, y = slopes(BENT)
    points = np.stack([x, y, np.ones_like(x)], -1).reshape(-1, 3)
    back, _ = cv2.projectPoints(points, np.zeros(3), np.zeros(3), BENT.matrix(), np.array(BENT.distortion))
    rows, columns = np.mgrid[:192, :320]
    np.testing.assert_allclose(back[:, 0], np.stack([columns, rows], -1).reshape(-1, 2), atol=1e-4)


def test_a_lens_that_folds_the_image_has_no_rays():
    with pytest.raises(ValueError, match="folds images of 320x192"):
        slopes(dataclasses.replace(BENT, distortion=(-1.0, 0, 0, 0, 0)))


def test_a_plain_camera_films_what_the_rig_sees():
    rig = Rig(208, 64)
    camera = Camera(*rig.focal, *rig.centre, rig.width, rig.height)
    drive, film = Drive(4, 8, rig), Film(camera, 4, 8)
    difference = np.abs(film.picture(3).astype(int) - drive.picture(3))
    assert np.median(difference) <= 2 and difference.mean() < 4  # filtered at another density
    inverse = 1 / film.depth(3) - 1 / drive.depth(3)
    assert np.median(np.abs(inverse)) < 1e-3


def test_straightened_frames_are_those_of_the_straight_camera():
    straight, map_x, map_y = cameras.undistortion(BENT)
    geometry = Geometry(320, 192, BENT, None, None, 192, "x")
    frame, truth = geometry.apply(Film(BENT, 4, 8).picture(3)), Film(straight, 4, 8).picture(3)
    grey = [cv2.GaussianBlur(cv2.cvtColor(each, cv2.COLOR_RGB2GRAY), (0, 0), 1.5) for each in (frame, truth)]
    shifts = []
    for top in range(0, 160, 32):
        for left in range(0, 288, 32):
            one, other = (each[top : top + 32, left : left + 32].astype(np.float64) for each in grey)
            if min(one.std(), other.std()) > 8:  # something to see
                shifts.append(cv2.phaseCorrelate(one, other, cv2.createHanningWindow((32, 32), cv2.CV_64F))[0])
    assert len(shifts) > 15 and np.abs(np.median(shifts, 0)).max() < 0.1
    assert np.median(np.linalg.norm(shifts, axis=1)) < 0.2
