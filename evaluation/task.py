"""What is evaluated: images, their ground truth, and how a prediction is scored."""

from collections.abc import Callable
from typing import NamedTuple

from evaluation.metrics import STEREO_SCALE, Protocol


class Task(NamedTuple):
    """What all weights of one evaluation share.

    name: for file names and summaries. columns, lines: what names the images in a CSV, each line its words.
    metrics: names of the numbers. protocol: how predictions meet ground truth. images: function (height, width) ->
    function index -> (3, height, width) float32 tensor in [0, 1]. score: function (disparities, indices) of the images
    at these places of the list, in their order -> iterator of `ImageResult`; ground truth is made, if need be, when it
    is first called. look: function index -> (the photograph as (h, w, 3) uint8, or None where it is not at hand, true
    depth (H, W), 0 where unknown), for pictures. prepare: makes the ground truth, where it is missing.
    """

    name: str
    columns: tuple
    lines: list
    metrics: tuple
    protocol: Protocol
    images: Callable
    score: Callable
    look: Callable
    prepare: Callable = lambda: None

    def some(self, indices):
        """Return the task of some of the images, which count from 0 again."""
        indices = list(indices)

        def images(height, width):
            image = self.images(height, width)
            return lambda place: image(indices[place])

        def score(disparities, places):
            return self.score(disparities, [indices[place] for place in places])

        lines = [self.lines[index] for index in indices]
        return self._replace(lines=lines, images=images, score=score, look=lambda place: self.look(indices[place]))


def chosen_protocol(opt, published):
    """Return the `Protocol` that evaluation's options ask for.

    Args:
        opt: the options.
        published: name of the protocol that belongs to the data, where none is asked for.
    """
    unscaled = opt.eval_stereo or opt.disable_median_scaling or opt.metric
    alignment = opt.alignment or ("none" if unscaled else "median")
    scale = opt.pred_depth_scale_factor
    if opt.eval_stereo and scale == 1:
        scale = STEREO_SCALE
    return Protocol.named(opt.protocol or published, alignment=alignment, scale_factor=scale)
