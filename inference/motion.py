"""Prediction of camera motion with trained weights: from the frames of a video to the motions between them."""

import torch

from checkpointing.motion import PAIR, load_motion_networks
from layers import disp_to_depth, transformation_from_parameters
from system.errors import UserError
from system.parallel import batched


class MotionPredictor:
    """Motion prediction with the weights of a folder.

    Args:
        folder: holds pose.pth and what goes with it, see `checkpointing.motion`.
        model: name of the Lite-Mono model; None: told from the files.
        device: torch device or its name.
        height, width: of the images; None: as the weights say, else 192 and 640.

    Attributes:
        networks: the `MotionNetworks`.
        height, width: of the images that `motions` takes.

    Raises:
        UserError: a file is missing, unreadable, or of no pose network.
    """

    def __init__(self, folder, model=None, device="cpu", height=None, width=None):
        self.device = torch.device(device)
        self.networks = load_motion_networks(folder, model, self.device)
        self.height = height or self.networks.height or 192
        self.width = width or self.networks.width or 640

    def motions(self, images, count, batch_size=16):
        """Return a generator of T_(i+1)_i, (4, 4) float64 NumPy, for i = 0 .. count - 2.

        Args:
            images: iterable of `count` frames (3, height, width) float32 in [0, 1]; a few are held at a time.
            count: number of frames.

        Raises:
            UserError: too few frames for the network.
        """
        return self._motions(iter(images), list(_plan(count, self.networks.frame_ids)), batch_size)

    @torch.inference_mode()
    def _motions(self, images, plan, batch_size):
        loaded, features, newest = {}, {}, -1
        for rows in batched(plan, batch_size):
            for _ in range(max(max(row.frames) for row in rows) - newest):
                newest += 1
                loaded[newest] = next(images).to(self.device)
            if self.networks.kind == "shared":
                self._encode(loaded, features)
            yield from self._batch(rows, loaded, features).numpy()
            oldest = min(rows[-1].frames) - 1
            for kept in (loaded, features):
                for frame in [frame for frame in kept if frame < oldest]:
                    del kept[frame]

    def _encode(self, loaded, features):
        fresh = [frame for frame in loaded if frame not in features]
        if fresh:
            maps = self.networks.encoder(torch.stack([loaded[frame] for frame in fresh]))
            features |= {frame: [each[index] for each in maps] for index, frame in enumerate(fresh)}

    def _batch(self, rows, loaded, features):
        """Return (B, 4, 4) float64 on the CPU."""
        kind, pose, encoder, depth = (getattr(self.networks, name) for name in ("kind", "pose", "encoder", "depth"))
        places = range(len(rows[0].frames))
        if kind == "shared":
            last = [[torch.stack([features[row.frames[place]][-1] for row in rows])] for place in places]
            axisangle, translation = pose(last)
        else:
            stacked = torch.cat([torch.stack([loaded[row.frames[place]] for row in rows]) for place in places], 1)
            axisangle, translation = pose(stacked) if kind == "posecnn" else pose([encoder(stacked)])
        number = torch.arange(len(rows), device=self.device)
        which = torch.tensor([row.motion for row in rows], device=self.device)
        axisangle, translation = axisangle[number, which], translation[number, which]  # (B, 1, 3) each
        if kind == "posecnn" and depth:
            targets = torch.stack([loaded[row.target] for row in rows])
            scaled, _ = disp_to_depth(depth.decoder(depth.encoder(targets))["disp", 0], *depth.depth_range)
            translation = translation * scaled.mean((2, 3))[:, None]  # mean inverse depth, as in training
        axisangle, translation = axisangle.cpu().double(), translation.cpu().double()  # not every device has float64
        transforms = transformation_from_parameters(axisangle, translation)
        backwards = transformation_from_parameters(axisangle, translation, invert=True)
        turned = torch.tensor([row.inverted for row in rows])
        return torch.where(turned[:, None, None], backwards, transforms)


class _Row:
    """One motion: the frames that go in, the frame whose depth is its unit, which motion comes out, and its sense."""

    def __init__(self, target, frame_ids, motion, inverted):
        self.target, self.motion, self.inverted = target, motion, inverted
        self.frames = tuple(target + offset for offset in frame_ids)


def _plan(count, frame_ids):
    """Yield the `_Row` of every motion i to i + 1; a network of neighbours sees the last or first frame sideways."""
    ways = [(0, frame_ids.index(1) - 1, False)] if 1 in frame_ids else []
    if -1 in frame_ids:
        ways.append((1, frame_ids.index(-1) - 1, True))
    for frame in range(count - 1):
        rows = (_Row(frame + step, frame_ids, motion, inverted) for step, motion, inverted in ways)
        row = next((row for row in rows if min(row.frames) >= 0 and max(row.frames) < count), None)
        if row is None:
            fix = f"give a longer sequence, or weights that see pairs {PAIR}"
            raise UserError(f"too few frames for a network that sees {list(frame_ids)}", f"{count} frames", fix)
        yield row
