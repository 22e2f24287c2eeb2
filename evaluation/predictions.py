"""The disparities that an evaluation is about: predicted by a network image by image, or stored in a file."""

import numpy as np
import torch

from checkpointing.folders import DEPTH_RANGE
from evaluation.cost import network_cost
from inference.predictor import Predictor
from layers import disp_to_depth
from system import files
from system.devices import choose_device
from system.errors import UserError
from system.parallel import batched, map_in_order
from system.progress import Progress


def network_disparities(opt, folder, task, tell=None):
    """Load a network; return (generator of scaled disparities (H, W) float32, what the summary says about it)."""
    device = choose_device(opt.no_cuda, opt.device)
    predictor = Predictor(folder, opt.model, device, dilations=opt.dilations, metric=opt.metric)
    network = predictor.network
    cost = network_cost(network.encoder, network.decoder, predictor.height, predictor.width)
    if tell:
        costs = f", {cost}" if opt.profile else ""
        tell(f"{folder}: {predictor.model}, {predictor.width}x{predictor.height}{costs}")
    about = {
        "model": predictor.model,
        "height": predictor.height,
        "width": predictor.width,
        "dilations": network.dilations,
        "parameters": cost.encoder_parameters + cost.decoder_parameters,
        "multiply_adds": cost.multiply_adds,
    }
    if opt.metric:
        about["metric_scale"] = predictor.metric_scale._asdict()
        if tell:
            tell(f"depth in metres: {predictor.metric_scale.factor:.4g} to a unit ({predictor.metric_scale.method})")
    return _predictions(opt, predictor, task, quiet=tell is None), about


def _predictions(opt, predictor, task, quiet):
    image = task.images(predictor.height, predictor.width)
    images = map_in_order(image, range(len(task.lines)), opt.num_workers)
    run = predictor.predict_post_processed if opt.post_process else predictor.predict
    unit = np.float32(predictor.metric_scale.factor if predictor.metric_scale else 1)
    with Progress("predicting", len(task.lines), "images", quiet) as progress:
        for batch in batched(images, opt.batch_size):
            scaled, _ = disp_to_depth(run(torch.stack(batch)), *_depth_range(opt, predictor.network))
            yield from scaled[:, 0].float().cpu().numpy() / unit
            progress.advance(len(batch))


def _depth_range(opt, network):
    """The depths that disparity stands for: as the options say where they are not the default, else as the weights."""
    given = opt.min_depth, opt.max_depth
    return network.depth_range if given == DEPTH_RANGE else given


class StoredDisparities:
    """The maps (H, W) of a .npy as a sequence that reads one at a time, so that no more than those in use are held.

    Args:
        path: of the file.
        maps: it, opened as `numpy.memmap`, (images, H, W) or (images, 1, H, W).
    """

    def __init__(self, path, maps):
        self._path, self._dtype, self._start, self._shape = path, maps.dtype, maps.offset, maps.shape[-2:]
        self._count = len(maps)
        self._whole = None if maps.flags.c_contiguous else maps  # in Fortran's order a map is not in one piece

    def __len__(self):
        return self._count

    def __getitem__(self, index):
        if not 0 <= index < self._count:
            raise IndexError(index)
        if self._whole is not None:
            return self._whole[index].reshape(self._shape)
        size = self._shape[0] * self._shape[1]
        start = self._start + index * size * self._dtype.itemsize
        return np.fromfile(self._path, self._dtype, size, offset=start).reshape(self._shape)


def stored_disparities(path, count):
    """Return stored disparities, `count` maps (H, W), of which only those asked for are read.

    Raises:
        UserError: no such file, no array of floats, or another number of maps.
    """
    files.refuse_unless_regular(path, "give a .npy as --save_pred_disps writes it")
    try:
        with np.errstate(over="ignore"):  # absurd sizes are refused all the same
            disparities = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise UserError("no such disparities file", path, "give a .npy as --save_pred_disps writes it") from None
    except files.DAMAGED_ARRAYS as error:
        raise UserError("not a plain .npy array", path, "give a .npy as --save_pred_disps writes it") from error
    if not isinstance(disparities, np.ndarray) or not np.issubdtype(disparities.dtype, np.floating):
        raise UserError("the disparities are not one array of floats", path, "give a .npy of shape (images, H, W)")
    channel = disparities.ndim == 4 and disparities.shape[1] == 1
    if disparities.ndim != 3 + channel or 0 in disparities.shape:
        raise UserError("the disparities have the wrong shape", f"{path}: {disparities.shape}",
                        "give a .npy of shape (images, H, W)")  # fmt: skip
    if len(disparities) != count:
        raise UserError("disparities and split differ in length", f"{path}: {len(disparities)} maps, {count} lines",
                        "choose the --eval_split that they were made for")  # fmt: skip
    return StoredDisparities(path, disparities)


def written_on_the_way(path, disparities, share, tell=None):
    """Yield `disparities`, (H, W) float32 each, while they go into a .npy of shape (images, H, W).

    Args:
        share: a `sharing.Share`; of its processes the first writes, the others only go along.
    """
    if not share.processes.is_first:
        yield from disparities
        return
    with files.replacing(path) as file:
        for index, disparity in enumerate(disparities):
            if index == 0:
                header = {"descr": "<f4", "fortran_order": False, "shape": (share.total, *disparity.shape)}
                np.lib.format.write_array_header_1_0(file, header)
            file.write(np.ascontiguousarray(disparity, "<f4").tobytes())
            yield disparity
    if tell:
        tell(f"disparities written to {path}")
