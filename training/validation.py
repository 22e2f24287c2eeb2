"""Validation: the whole list, networks in eval mode, loss and depth metrics, shared between processes."""

import math

import numpy as np
import torch

from evaluation.metrics import METRICS, Protocol, evaluate_image
from layers import disp_to_depth
from losses.objective import compute_losses, noise_like_identity
from training.model import sum_of_motions
from training.optimisation import numbers_of

NOISE_SEED = 7  # the same noise at every validation, drawn apart from training's generators


def validate(network, loader, objective, protocol, prepare, autocast, processes):
    """Return {"loss": ..., and the seven metrics where ground truth exists} as means over the whole list.

    Args:
        network: `DepthAndMotion`; it is in eval mode afterwards and before only for the time of the call.
        loader: this process's share of the list, in order.
        objective: `losses.objective.Objective`.
        protocol: `evaluation.metrics.Protocol` of the ground truth.
        prepare: turns a loaded batch into inputs on the device.
        autocast: makes the context in which the networks run.
        processes: `Processes`.

    Returns also (inputs, outputs) of the first batch, for pictures; None on a process with an empty share.

    Raises:
        FloatingPointError: a loss or a predicted motion is not finite.
    """
    training = network.training
    network.eval()
    processes.broadcast_buffers(network)
    losses, rows, first = [], [], None
    try:
        with torch.no_grad():
            for batch in loader:
                inputs = prepare(batch)
                with autocast():
                    outputs = network(inputs)
                generator = torch.Generator(inputs["color", 0, 0].device).manual_seed(NOISE_SEED)
                noise = noise_like_identity(inputs, objective, generator) if objective.automask else None
                maps, terms = compute_losses(inputs, outputs, objective, noise)
                count = len(inputs["color", 0, 0])
                values = numbers_of({"loss": terms["loss"], "motion": sum_of_motions(outputs)})
                for name, value in values.items():
                    if not math.isfinite(value):
                        raise FloatingPointError(f"{name} in validation")
                losses.append((values["loss"] * count, count))
                rows += list(depth_rows(inputs, outputs, objective, protocol))
                if first is None:
                    first = inputs, {**outputs, **maps}
    finally:
        network.train(training)
    losses = [each for share in processes.gather(losses) for each in share]
    rows = [each for share in processes.gather(rows) for each in share]
    total = sum(count for _, count in losses)
    results = {"loss": sum(loss for loss, _ in losses) / total if total else float("nan")}
    if rows:
        results |= dict(zip(METRICS, map(float, np.mean(rows, axis=0)), strict=True))
    return results, first


def depth_rows(inputs, outputs, objective, protocol):
    """Yield the seven metrics of each item that has ground truth, at that ground truth's size."""
    if "depth_gt" not in inputs:
        return
    disparity = disp_to_depth(outputs["disp", 0].float(), objective.min_depth, objective.max_depth)[0].cpu().numpy()
    for truth, disp in zip(inputs["depth_gt"].cpu().numpy(), disparity, strict=True):
        result = evaluate_image(truth[0], disp[0], protocol)
        if result.pixels:
            yield tuple(map(float, result.errors))


def protocol_for(dataset):
    """Return how the ground truth of a kind of data is used: Garg's crop for KITTI's LiDAR scans only."""
    return Protocol(garg_crop=dataset not in ("kitti_depth", "frames"))
