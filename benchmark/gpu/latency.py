"""Milliseconds from images on the device to disparity, as the Predictor gives it, over models, batches, precisions."""

import statistics
import tempfile

import torch

from benchmark.gpu.meter import Meter
from checkpointing.folders import save_networks
from inference import Predictor
from networks import DepthDecoder, LiteMono

WARM_UP = 5  # predictions


def measure(device, models, batches, precisions, height, width, rounds, times):
    """Measure predictions.

    Args:
        device: name of a torch device.
        models, batches, precisions: lists; precisions as the Predictor takes them.
        rounds, times: measurements, and predictions in a row for each.

    Returns:
        List of {"model", "batch", "precision", "graph": whether a CUDA graph is recorded, "ms": a batch, "peak_gb"}.
    """
    found = []
    for model in models:
        with tempfile.TemporaryDirectory() as folder:
            torch.manual_seed(0)
            encoder = LiteMono(model, height, width)
            networks = {"encoder": encoder, "depth": DepthDecoder(encoder.num_ch_enc)}
            save_networks(folder, networks, height, width, False, encoder.dilations)
            for precision in precisions:
                for batch in batches:
                    for graphs in _graphs(device, batch):
                        predictor = Predictor(folder, device=device, precision=precision, graphs=graphs)
                        row = {"model": model, "batch": batch, "precision": precision, "graph": graphs}
                        found.append(row | _one(predictor, batch, rounds, times))
    return found


def _graphs(device, batch):
    if torch.device(device).type != "cuda":
        return (False,)
    return (False, True) if batch == 1 else (False,)  # as the Predictor decides by itself


def _one(predictor, batch, rounds, times):
    meter = Meter(predictor.device)
    images = torch.rand(batch, 3, predictor.height, predictor.width, device=predictor.device)
    for _ in range(WARM_UP):
        predictor.predict(images)
    meter.forget_peak()
    seconds = [meter.seconds(lambda: predictor.predict(images), times) for _ in range(rounds)]
    return {"ms": 1000 * statistics.median(seconds), "peak_gb": meter.peak_gb()}
