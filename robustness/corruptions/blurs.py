"""Zoom and glass blur of ImageNet-C (Hendrycks and Dietterich, ICLR 2019), equal to imagecorruptions' to the last bit.

The package magnifies whole colour images with a general spline (zoom) and lets numba compile a loop over pixels in
every process (glass); here torch magnifies, and NumPy follows where each pixel's colour comes from.
"""

import numpy as np

ZOOM_FACTORS = (
    np.arange(1, 1.11, 0.01),
    np.arange(1, 1.16, 0.01),
    np.arange(1, 1.21, 0.02),
    np.arange(1, 1.26, 0.02),
    np.arange(1, 1.31, 0.03),
)
GLASS = ((0.7, 1, 2), (0.9, 2, 1), (1.0, 2, 3), (1.1, 3, 2), (1.5, 4, 2))  # sigma, reach in pixels, rounds


def zoom_blur(image, severity):
    """Return the mean of an image (H, W, 3) uint8 and its enlargements about the middle, as seen while moving."""
    import torch

    height, width = image.shape[:2]
    values = (image / 255.0).astype(np.float32)
    planes = torch.from_numpy(values).permute(2, 0, 1)[None].double()
    total = torch.zeros(planes.shape, dtype=torch.float32)
    for factor in ZOOM_FACTORS[severity - 1]:
        rows, columns = (int(np.ceil(size / float(factor))) for size in (height, width))
        top, left = (height - rows) // 2, (width - columns) // 2
        window = planes[:, :, top : top + rows, left : left + columns]
        size = round(rows * factor), round(columns * factor)
        enlarged = torch.nn.functional.interpolate(window, size, mode="bilinear", align_corners=True).float()
        if _last_falls_outside(rows, size[0]):
            enlarged[:, :, -1] = 0
        if _last_falls_outside(columns, size[1]):
            enlarged[..., -1] = 0
        total += enlarged[:, :, :height, :width]
    mean = (values + total[0].permute(1, 2, 0).numpy()) / (len(ZOOM_FACTORS[severity - 1]) + 1)
    return np.uint8(np.clip(mean, 0, 1) * 255)


def _last_falls_outside(old, new):
    """Whether rounding moves the last sample beyond the window, where SciPy's zoom sees black."""
    return (new - 1) * ((old - 1) / (new - 1)) > old - 1


def glass_blur(image, severity, seed):
    """Return an image (H, W, 3) uint8 as seen through frosted glass: blurred, pixels displaced, blurred again."""
    from skimage.filters import gaussian

    sigma, reach, rounds = GLASS[severity - 1]
    height, width = image.shape[:2]
    blurred = np.uint8(gaussian(image / 255.0, sigma=sigma, channel_axis=-1) * 255)
    displaced = _displaced(blurred.reshape(-1, 3), height, width, reach, rounds, seed).reshape(image.shape)
    return np.uint8(np.clip(gaussian(displaced / 255.0, sigma=sigma, channel_axis=-1), 0, 1) * 255)


def _displaced(colours, height, width, reach, rounds, seed):
    """Return `colours` (H * W, 3) after every inner pixel, from last to first, took a random neighbour's colour.

    A neighbour that was visited before gives the colour it took itself: its own source, so that one follows the sources
    back, twice as far in every step, to the pixel that had not changed yet.
    """
    rows, columns = np.arange(height - reach, reach, -1), np.arange(width - reach, reach, -1)
    if not (len(rows) and len(columns)):
        return colours
    visited = (rows[:, None] * width + columns).ravel()  # in order of visits; the border is left out
    moves = np.random.RandomState(seed).randint(-reach, reach, size=(rounds, len(visited), 2))
    turn = np.full(height * width, len(visited))  # when a pixel is visited; the border never is
    turn[visited] = np.arange(len(visited))
    for right, down in moves.transpose(0, 2, 1):
        source = np.arange(height * width)
        source[visited] = visited + down * width + right
        settled = turn[source[visited]] >= np.arange(len(visited))
        # pixels whose source had changed before go on from there; the others stay with the source they have
        step = np.arange(height * width)
        follow = visited[~settled]
        step[follow] = source[follow]
        while True:
            further = step[step]
            if np.array_equal(further, step):
                break
            step = further
        colours = colours[source[step]]
    return colours
