"""The job of `benchmark.worker` that takes training steps: plain, fast, in bf16, compiled, without one fast way."""

import os

import numpy as np
import torch

from benchmark.plain import depth_network, objective
from cpu import SWITCH, WAYS
from losses.objective import Objective, compute_losses
from options import LiteMonoOptions
from training.model import DepthAndMotion
from training.run.precision import Precision, choose_device, set_up

ABLATION = ("fast", *(f"fast without {way}" for way in (*WAYS, "all")))
VERSIONS = ("plain", "fast", "fast bf16", "fast compiled", "fast bf16 compiled")


def made_up_batch(batch, height, width, device):
    """Return a batch as the data sets make it: a smooth moving picture with noise."""
    generator = torch.Generator().manual_seed(0)
    small = torch.rand(batch, 3, height // 16, (width + 32) // 16, generator=generator)
    picture = torch.nn.functional.interpolate(small, (height, width + 32), mode="bilinear")
    picture = (picture + 0.05 * torch.rand(picture.shape, generator=generator)).clamp(0, 1)
    inputs = {}
    for frame, start in ((0, 8), (-1, 4), (1, 12)):
        image = picture[..., start : start + width].contiguous()
        inputs["color", frame, 0], inputs["color_aug", frame, 0] = image, 0.95 * image
        for scale in (1, 2):
            inputs["color", frame, scale] = torch.nn.functional.avg_pool2d(image, 2**scale)
    K = np.eye(4, dtype=np.float32)
    K[0, [0, 2]], K[1, [1, 2]] = (0.58 * width, width / 2), (1.92 * height, height / 2)
    inputs["K", 0] = torch.from_numpy(K)[None].repeat(batch, 1, 1)
    inputs["inv_K", 0] = torch.from_numpy(np.linalg.pinv(K))[None].repeat(batch, 1, 1)
    return {key: value.to(device) for key, value in inputs.items()}


def make(version, model, batch, height, width, no_cuda):
    """Return the function that takes one step and returns the loss, which waits for the device; and the device."""
    if "without" in version:
        os.environ[SWITCH] = version.split()[-1].replace("all", "1")
    device = choose_device(no_cuda)
    torch.manual_seed(0)
    opt = LiteMonoOptions().parse(["--model", model, "--height", str(height), "--width", str(width),
                                   "--weights_init", "scratch"])  # fmt: skip
    network = DepthAndMotion(opt).to(device).train()
    plain = version == "plain"
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-4, weight_decay=1e-2, fused=not plain)
    inputs = made_up_batch(batch, height, width, device)
    precision, losses_of = Precision("bf16" if "bf16" in version else "off", device), compute_losses
    if plain:
        torch.set_default_device(device)
    else:
        set_up(device)
    if "compiled" in version:
        network.compile()
        losses_of = torch.compile(compute_losses)

    def step():
        optimiser.zero_grad(set_to_none=True)
        if plain:
            loss, _ = objective.compute_losses(inputs, depth_network.predict(network.networks, inputs))
        else:
            with precision.autocast():
                outputs = network(inputs)
            loss = losses_of(inputs, outputs, Objective((0, 1, 2), (-1, 1)))[1]["loss"]
        loss.backward()
        optimiser.step()
        return loss.item()

    return step, device
