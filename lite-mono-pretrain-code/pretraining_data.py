"""The images of a run, as its options ask for them: training and validation, checked, in batches."""

import torch

from augmentation import make_transform
from labelled_images import BatchOrder, LabelledImages, batch_sizes, crop_sizes
from learner import mixes
from readers import check_classes, check_same_classes, class_names, find_part, open_reader
from system.errors import UserError
from training.run.loading import make_loader

VALIDATION_WORKERS = 4


class PretrainingData:
    """Data sets and loaders of this process.

    Args:
        opt: the namespace of `pretraining_options.parse`.
        processes: `Processes`.
        device: where batches go.

    Attributes:
        names: class names by number; set them before `open_validation` where a checkpoint knows them.
        train_set, order, loader, steps_per_epoch: after `open_both`.
        val_set, val_loader: after either; val_set is None where there is no evaluation.
    """

    def __init__(self, opt, processes, device):
        self.opt, self.processes = opt, processes
        self.pinned_for = device if opt.pin_mem else torch.device("cpu")
        self.names, self.val_set = None, None

    def open_both(self):
        """Find and check the images to train on and, unless --disable_eval, those to evaluate on.

        Raises:
            UserError: none there, or not the classes that the options tell of.
        """
        opt = self.opt
        path = find_part(opt, "train")
        reader = open_reader(path)
        self.names = sorted(class_names(reader))
        check_classes(self.names, opt.nb_classes, path)
        if not opt.disable_eval:
            self.open_validation()
        sizes = crop_sizes(opt)
        transforms = [make_transform(opt, size, is_training=True) for size in sizes]
        self.train_set = LabelledImages(reader, transforms, self.names, opt.seed)
        counts = batch_sizes(sizes, opt.batch_size, opt.input_size, even=mixes(opt))
        self.order = BatchOrder(len(self.train_set), counts, opt.seed, self.processes)
        self.steps_per_epoch = len(self.order) // opt.update_freq
        if not self.steps_per_epoch:
            held = f"{len(self.train_set)} images, {opt.update_freq} x {opt.batch_size} a step and process"
            raise UserError("fewer training images than one step takes", held, "lower --batch_size or --update_freq")
        self.loader = make_loader(self.train_set, opt.num_workers, self.pinned_for, batch_sampler=self.order)

    def open_validation(self):
        """Find and check the images to evaluate on. Raises UserError as `open_both`."""
        opt = self.opt
        path = find_part(opt, "val")
        reader = open_reader(path)
        if self.names is None:
            self.names = sorted(class_names(reader))
            check_classes(self.names, opt.nb_classes, path)
        check_same_classes(self.names, reader, path)
        self.val_set = LabelledImages(reader, [make_transform(opt, opt.input_size, is_training=False)], self.names)
        parts = self.processes.count if opt.dist_eval else 1
        share = range(self.processes.rank, len(self.val_set), parts) if self.processes.rank < parts else range(0)
        mine = torch.utils.data.Subset(self.val_set, share)
        workers = min(opt.num_workers, VALIDATION_WORKERS)
        self.val_loader = make_loader(mine, workers, self.pinned_for, batch_size=opt.batch_size)

    def parts(self):
        """Return {"train": data set, "val": data set}, as far as there are."""
        return {"train": self.train_set} | ({"val": self.val_set} if self.val_set is not None else {})
