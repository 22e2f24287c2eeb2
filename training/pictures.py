"""Pictures of a training step: what the network saw, what it made of it."""

import numpy as np
import torch

from inference.colour import colour_disparity


def training_pictures(inputs, outputs, sources, scales, count):
    """Yield (name, (H, W, 3) uint8) for the first `count` items of a batch."""
    for item in range(min(count, len(inputs["color", 0, 0]))):
        yield f"target/{item}", _image(inputs["color", 0, 0][item])
        for frame in sources:
            yield f"source_{frame}/{item}", _image(inputs["color", frame, 0][item])
            yield f"warped_{frame}/{item}", _image(outputs["color", frame, 0][item])
        for scale in scales:
            yield f"disp_{scale}/{item}", colour_disparity(_numpy(outputs["disp", scale][item, 0]))
            if f"identity_selection/{scale}" in outputs:
                mask = _numpy(outputs[f"identity_selection/{scale}"][item])
                yield f"automask_{scale}/{item}", np.repeat((mask * 255).astype(np.uint8)[..., None], 3, 2)
            if "predictive_mask" in outputs:
                mask = _numpy(outputs["predictive_mask"]["disp", scale][item, 0])
                yield f"predictive_mask_{scale}/{item}", np.repeat((mask * 255).astype(np.uint8)[..., None], 3, 2)


def _numpy(tensor):
    return tensor.detach().to("cpu", torch.float32).numpy()


def _image(tensor):
    return (_numpy(tensor).transpose(1, 2, 0).clip(0, 1) * 255).round().astype(np.uint8)
