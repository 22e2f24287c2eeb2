"""The batch behind train_step_*.npz, and what its figures are compared with."""

import numpy as np
import torch

from tests.reference.seeded_weights import fill, image

SMALL = 1e-4  # of the largest gradient norm: what smaller ones are measured against


def filled(network):
    """Return the network with the reference's weights."""
    network.load_state_dict({key: torch.from_numpy(value) for key, value in fill(network.state_dict()).items()})
    return network


def reference_batch():
    """Return the batch: four crops of one picture as frames 0, -1, 1 and "s"."""
    picture, batch = torch.from_numpy(image(11, (2, 3, 192, 672))), {}
    for frame, shift in ((0, 8), (-1, 4), (1, 12), ("s", 16)):
        full = picture[..., shift : shift + 640].contiguous()
        for scale in range(3):
            colour = torch.nn.functional.avg_pool2d(full, 2**scale)
            batch["color", frame, scale], batch["color_aug", frame, scale] = colour, 0.95 * colour
    for scale in range(3):
        K = np.array([[0.58, 0, 0.5, 0], [0, 1.92, 0.5, 0], [0, 0, 1, 0], [0, 0, 0, 1]], np.float32)
        K[0] *= 640 // 2**scale
        K[1] *= 192 // 2**scale
        batch["K", scale] = torch.from_numpy(K).expand(2, 4, 4)
        batch["inv_K", scale] = torch.from_numpy(np.linalg.pinv(K)).expand(2, 4, 4)
    batch["stereo_T"] = torch.eye(4).repeat(2, 1, 1)
    batch["stereo_T"][:, 0, 3] = -0.1
    return batch
