"""One disparity from the predictions for an image and its mirror image. Free of torch."""

import numpy as np

_EDGE_START, _EDGE_SLOPE = 0.05, 20  # post-processing ramp: full weight up to 5 % of the width, none from 10 %


def batch_post_process_disparity(left, right):
    """Blend the disparities of images and of their mirror images (Godard et al., CVPR 2017, section 3.4).

    Near each border one of the two does not see what occludes it there, so the other takes over; between, their mean.

    Args:
        left: (B, H, W) disparity of the images.
        right: (B, H, W) disparity of the mirrored images, mirrored back.

    Returns:
        (B, H, W), of the arrays' own type or wider.
    """
    across = np.linspace(0, 1, left.shape[-1])
    near_left = 1 - np.clip(_EDGE_SLOPE * (across - _EDGE_START), 0, 1)
    near_right = near_left[::-1]
    return near_right * left + near_left * right + (1 - near_left - near_right) * 0.5 * (left + right)
