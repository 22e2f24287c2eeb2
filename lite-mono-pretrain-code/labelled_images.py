"""Images with their classes, augmented and put into batches.

The random draws of an image depend on seed, epoch and image alone, so that a resumed run sees the same images
whatever its workers had already loaded.
"""

import contextlib
import itertools
import os
import random
import warnings

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset

from readers import class_names
from system.errors import UserError
from training.run.loading import EpochOrder

STEP = 32  # the encoder's sizes are multiples of it
MOST_PIXELS = 89_478_485  # of an image: Pillow's limit, a quarter of a gigabyte decoded
NARROWEST = 100  # longer side over shorter one


# ---------------------------------------------------------------------------------------------------------- items


class LabelledImages(Dataset):
    """Items {"image": (3, H, W) normalised, "target": class number}.

    They are taken by index, or by (epoch, index, choice of transform).

    Args:
        reader: timm's, of image files and class numbers.
        transforms: one for each image size.
        names: class names in the order of the numbers to give; default: the reader's own.
        seed: of the augmentation.
    """

    def __init__(self, reader, transforms, names=None, seed=0):
        self.reader, self.transforms, self.seed = reader, tuple(transforms), seed
        own = class_names(reader)
        self.numbers = [(names or own).index(name) for name in own]

    def __len__(self):
        return len(self.reader)

    def __getitem__(self, index):
        epoch, number, choice = index if isinstance(index, tuple) else (0, index, 0)
        image, target = self._attempt("read", number, self._read)
        with drawing_from(self.seed, epoch, number):
            image = self._attempt("augmented", number, lambda _: self.transforms[choice](image))
        return {"image": image, "target": self.numbers[target]}

    def _attempt(self, what, number, action):
        """Return action(number); whatever odd content makes of it is a mistake of the image's, by name."""
        try:
            return action(number)
        except MemoryError:
            raise
        except Exception as error:
            said = f"{self._where(number)} ({type(error).__name__}: {error})"
            raise UserError(f"the image cannot be {what}", said, "replace or remove it") from error

    def _where(self, number):
        name = self.reader.filename(number, absolute=True)
        return name if os.path.isabs(name) else os.path.join(self.reader.root, name)

    def _read(self, number):
        file, target = self.reader[number]
        with file, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # odd metadata and sizes: the pixels count, and the sizes are checked here
            with Image.open(file) as image:
                width, height = image.size
                if width * height > MOST_PIXELS or max(width, height) > NARROWEST * min(width, height):
                    limits = f"at most {MOST_PIXELS} pixels, and {NARROWEST} times as long as wide"
                    raise ValueError(f"{width}x{height} pixels, where an image has {limits}")
                return image.convert("RGB"), target


@contextlib.contextmanager
def drawing_from(*seeds):
    """Let Python's, NumPy's and torch's generators draw from `seeds` inside, and go on as before after."""
    before = random.getstate(), np.random.get_state(), torch.get_rng_state()
    words = np.random.SeedSequence(seeds).generate_state(3)
    random.seed(int(words[0]))
    np.random.seed(words[1])
    torch.default_generator.manual_seed(int(words[2]))
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
        torch.set_rng_state(before[2])


# ---------------------------------------------------------------------------------------------------------- batches


def crop_sizes(opt):
    """Return the (height, width) pairs that training batches come in, multiples of 32, growing."""
    if not opt.multi_scale_sampler:
        return [(opt.input_size, opt.input_size)]
    sides = [[getattr(opt, f"{end}_crop_size_{side}") // STEP for end in ("min", "max")] for side in "hw"]
    count = max(high - low for low, high in sides) + 1
    ranges = [np.linspace(low, high, count).round().astype(int) * STEP for low, high in sides]
    return [(int(height), int(width)) for height, width in zip(*ranges, strict=True)]


def batch_sizes(sizes, batch_size, input_size, even=False):
    """Return how many images of each size hold about the pixels of `batch_size` square ones of `input_size`."""
    counts = [max(1, round(batch_size * input_size**2 / (height * width))) for height, width in sizes]
    return [max(2, count // 2 * 2) for count in counts] if even else counts


class BatchOrder:
    """A batch sampler over image sizes: lists of (epoch, index, choice of size), the sizes the same in all processes.

    The sizes are drawn once, so that every epoch has the same number of batches; each epoch shuffles sizes and images
    by seed and epoch.

    Raises:
        UserError: there are fewer images than a batch takes.
    """

    def __init__(self, length, counts, seed, processes):
        self.counts, self.seed = counts, seed
        self.images = EpochOrder(length, 1, seed, processes)
        self.start = 0
        self.choices = self._draw_choices()
        if not self.choices:
            held = f"{length} images, {processes.count} x {min(counts)} a batch"
            raise UserError("fewer training images than one batch takes", held, "lower --batch_size")

    def _draw_choices(self):
        chance, left, choices = random.Random(self.seed), len(self.images), []
        while fitting := [choice for choice, count in enumerate(self.counts) if count <= left]:
            choices.append(chance.choice(fitting))
            left -= self.counts[choices[-1]]
        return choices

    def begin(self, epoch, start=0):
        """Choose the epoch, and the batch inside it to go on from."""
        self.images.begin(epoch)
        self.start = start

    def __len__(self):
        return len(self.choices)

    def __iter__(self):
        epoch, images = self.images.epoch, itertools.chain.from_iterable(self.images)
        chance = random.Random(self.seed * 1_000_003 + epoch)
        for position, choice in enumerate(chance.sample(self.choices, len(self.choices))):
            batch = list(itertools.islice(images, self.counts[choice]))
            if position >= self.start:
                yield [(epoch, index, choice) for epoch, index in batch]
