"""The data of a run: both lists of its split, in batches."""

import functools
import hashlib
import logging
import os

import torch

from datasets import dataset_class
from datasets.cache import RAM, FrameCache
from datasets.jitter import apply_batch
from datasets.on_device import complete
from datasets.splits import resolve_split, shared_notice
from system.errors import UserError
from training.run.compilation import compiled
from training.run.feeding import CopyAhead
from training.run.loading import BadSamples, EpochOrder, grouped, make_loader
from training.supervision import add_supervision

VALIDATION_WORKERS = 4

log = logging.getLogger(__name__)


class TrainingData:
    """Training and validation items as the options ask for them.

    Args:
        opt: the options.
        objective: `losses.objective.Objective`, which says what an item has to hold.
        processes: `Processes`.
        device: where batches go.

    Attributes:
        split: the `Split`; train_set, val_set: the data sets; bad_samples: the count of broken ones.
        steps_per_epoch: optimiser steps.

    Raises:
        UserError: no data folder or split, or fewer items than a step takes.
    """

    def __init__(self, opt, objective, processes, device):
        self.split = find_split(opt)
        notice = shared_notice(self.split)
        if notice and processes.is_first:
            log.warning(notice)
        self.apply_jitter = compiled(apply_batch, opt.compile, device)
        # Workers that read from a cache, or feed a GPU, would be slower at the arithmetic than the device itself.
        on_device = bool(opt.cache) or device.type == "cuda"
        self.train_set = make_dataset(opt, self.split.lines("train"), objective, is_train=True, on_device=on_device)
        self.val_set = make_dataset(opt, self.split.lines("val"), objective, is_train=False, on_device=on_device)
        add_supervision(opt, self.train_set)
        if opt.cache:
            open_cache(opt, processes, self.train_set, self.val_set)
        self.bad_samples = BadSamples(opt.on_bad_sample)
        self._accumulated = opt.grad_accum
        self._ahead = CopyAhead(device) if device.type == "cuda" else iter
        self._order = EpochOrder(len(self.train_set), opt.batch_size, opt.seed, processes)
        self.steps_per_epoch = len(self._order) // opt.grad_accum
        if not self.steps_per_epoch:
            needed = opt.batch_size * opt.grad_accum * processes.count
            raise UserError("fewer training items than one step takes", f"{len(self.train_set)} items, {needed} a step",
                            "lower --batch_size or --grad_accum")  # fmt: skip
        self._loader = make_loader(self.train_set, opt.num_workers, device, batch_sampler=self._order)
        share = torch.utils.data.Subset(self.val_set, range(processes.rank, len(self.val_set), processes.count))
        workers = min(opt.num_workers, VALIDATION_WORKERS)
        self._val_loader = make_loader(share, workers, device, batch_size=opt.batch_size)

    def steps(self, epoch, first):
        """Yield (batches of one optimiser step, seconds waited for them) of an epoch from step `first` on."""
        self._order.begin(epoch, first * self._accumulated)
        return grouped(self._ahead(self._loader), self._accumulated, self.bad_samples)

    def validation(self):
        """Yield this process's batches of the validation list."""
        return map(self.bad_samples.without_bad, self._ahead(self._val_loader))

    def complete(self, batch):
        """Do on the device what the items of a loaded batch left to it."""
        return complete(batch, self.train_set.wanted, self.apply_jitter)

    def record(self):
        """Return {part: (split, lines, SHA-256 of the lines)}."""
        record = {}
        for part, dataset in (("train", self.train_set), ("val", self.val_set)):
            text = "\n".join(f"{line.folder} {line.frame} {line.side}" for line in dataset.lines)
            record[part] = (self.split.name, len(dataset), hashlib.sha256(text.encode()).hexdigest())
        return record

    def names(self, batch):
        """Return the split lines of a batch's items."""
        lines = [self.train_set.lines[index] for index in batch["index"].tolist()]
        return [f"{line.folder} {line.frame} {line.side}" for line in lines]


def open_cache(opt, processes, *datasets):
    """Open the cache of the options for these data sets; in memory, the processes of a machine share one.

    Raises:
        UserError: as `FrameCache.open`.
    """
    shares = opt.cache == RAM and processes.count > 1
    cache = None
    if not shares or processes.local_rank == 0:
        quiet = not processes.is_first
        cache = FrameCache.open(opt.cache, *datasets, workers=opt.num_workers, quiet=quiet)
    if shares:
        first_here = processes.rank - processes.local_rank
        places = processes.gather(cache.place() if cache else None)
        if cache is None:
            FrameCache.adopt(places[first_here], *datasets)


def find_split(opt):
    """Return the `Split` of the options, once it is known that there is a data folder.

    Raises:
        UserError: no such folder, or no such split.
    """
    if not os.path.isdir(opt.data_path):
        raise UserError("no such data folder", opt.data_path, "give --data_path; README tells how to get the data")
    return resolve_split(opt.split)


def make_dataset(opt, lines, objective, is_train, on_device=False):
    """Return the data set of the options, which computes only what networks and objective use."""
    frames = (0, *objective.sources)
    keys = {("color", frame, objective.image_scale(scale)) for frame in frames for scale in objective.scales}
    keys |= {("color", 0, scale) for scale in objective.scales}  # for the smoothness
    keys |= {("color_aug", frame, 0) for frame in opt.frame_ids}
    kind = functools.partial(
        dataset_class(opt.dataset), opt.data_path, lines, opt.height, opt.width, frames, max(opt.scales) + 1, is_train,
        ".png" if opt.png else ".jpg", seed=opt.seed, jitter_per_image=opt.jitter_per_image, on_device=on_device,
    )  # fmt: skip
    if opt.dataset == "frames":
        kind = functools.partial(kind, frame_stride=opt.frame_stride)
    dataset = kind(keys=keys)
    return kind(keys=keys | {"depth_gt"}) if not is_train and dataset.has_depth() else dataset
