"""Accuracy over a whole validation set, shared between processes."""

import torch
import torch.nn.functional as F
from timm.utils import accuracy


def score(network, loader, device, autocast, processes, progress):
    """Return {"loss", "top1", "top5", "images"}: cross-entropy and percentages over all processes' shares.

    Args:
        network: classifier; in eval mode for the time of the call.
        loader: batches with "image" and "target" on this process.
        device: where the network is.
        autocast: makes the context in which it runs.
        processes: `Processes`.
        progress: `Progress` of the batches.
    """
    training = network.training
    network.eval()
    processes.broadcast_buffers(network)
    sums = torch.zeros(4, dtype=torch.float64)
    try:
        with torch.inference_mode(), progress:
            for batch in progress.over(loader):
                image = batch["image"].to(device, non_blocking=True)
                target = batch["target"].to(device, non_blocking=True)
                with autocast():
                    logits = network(image)
                loss = F.cross_entropy(logits.float(), target)
                top1, top5 = accuracy(logits, target, topk=(1, 5))
                count = len(target)
                sums += torch.tensor([loss.item() * count, top1.item() * count, top5.item() * count, count])
    finally:
        network.train(training)
    loss, top1, top5, count = map(sum, zip(*processes.gather(sums.tolist()), strict=True))
    return {"loss": loss / count, "top1": top1 / count, "top5": top5 / count, "images": int(count)}
