"""All networks of a training run behind one forward pass: from a batch of frames to disparity and motion.

One module holds them, so that one wrapper makes them distributed; `networks` names each for saving and loading.
"""

import torch
from torch import nn

from checkpointing.folders import choose_dilations
from layers import rigid_motion, rotation
from networks.depth_decoder import DepthDecoder
from networks.lite_mono import LiteMono
from networks.pose_networks import PoseCNN, PoseDecoder
from networks.resnet_encoder import ResnetEncoder
from system.errors import UserError

DEPTH_NETWORKS = ("encoder", "depth", "predictive_mask")
POSE_NETWORKS = ("pose_encoder", "pose")


class DepthAndMotion(nn.Module):
    """The networks that `opt` (see options.py) asks for.

    Args:
        opt: the options, whose `model` is known.
        stored_dilations: those of the weights that the run starts from, None for the published ones.

    Attributes:
        networks: ModuleDict name -> network: encoder, depth, and as asked pose_encoder, pose, predictive_mask.
        sources: frames that are warped into frame 0: offsets in time, then "s" with --use_stereo.
        inverted: sources whose motion is predicted from them to frame 0.

    Raises:
        UserError: ImageNet weights of the pose network cannot be had, or dilations do not fit.
    """

    def __init__(self, opt, stored_dilations=None):
        super().__init__()
        self.pose_type, self.pairs = opt.pose_model_type, opt.pose_model_input == "pairs"
        self.frames = tuple(opt.frame_ids)  # in time
        self.sources = self.frames[1:] + (("s",) if opt.use_stereo else ())
        self.inverted = tuple(frame for frame in self.frames[1:] if self.pairs and frame < 0)

        encoder = _build_encoder(opt, stored_dilations)
        networks = {"encoder": encoder, "depth": DepthDecoder(encoder.num_ch_enc, opt.scales)}
        if self.frames[1:]:
            networks |= self._build_pose(opt, encoder)
        if opt.predictive_mask:
            networks["predictive_mask"] = DepthDecoder(encoder.num_ch_enc, opt.scales, len(self.sources))
        self.networks = nn.ModuleDict(networks)

    def to_device(self, device):
        """Move all weights; off the CPU into the memory format of the maps, where cuDNN would do so in every step.

        Those of the decoders stay: reflection padding hands their convolutions (B, C, H, W) in that order.
        """
        for name, network in self.networks.items():
            if device.type == "cpu" or name in ("depth", "predictive_mask"):
                network.to(device)
            else:
                network.to(device, memory_format=torch.channels_last)
        return self

    def _build_pose(self, opt, encoder):
        seen = 2 if self.pairs else len(self.frames)
        if self.pose_type == "posecnn":
            return {"pose": PoseCNN(seen)}
        if self.pose_type == "shared":
            return {"pose": PoseDecoder(encoder.num_ch_enc, seen)}
        pose_encoder = _build_resnet(opt, seen)
        # The published pose decoder predicts two motions, also for a pair, of which the first is used.
        return {"pose_encoder": pose_encoder, "pose": PoseDecoder(pose_encoder.num_ch_enc, 1, max(seen - 1, 2))}

    def forward(self, inputs):
        """Predict depth and motion for a batch.

        Args:
            inputs: ("color_aug", frame, 0): (B, 3, H, W) in [0, 1] for every frame in time.

        Returns:
            ("disp", scale): (B, 1, H/2^scale, W/2^scale) in (0, 1); for every source in time ("axisangle", 0, frame),
            ("translation", 0, frame): (B, 1, 3) and ("cam_T_cam", 0, frame) = T_frame_0: (B, 4, 4); and
            "predictive_mask": {("disp", scale): (B, sources, ...)} where one is predicted.
        """
        shared = self.pose_type == "shared" and "pose" in self.networks
        features = self._features_of_all_frames(inputs) if shared else {}
        depth_features = features.get(0) or self.networks["encoder"](inputs["color_aug", 0, 0])
        outputs = self.networks["depth"](depth_features)
        if "predictive_mask" in self.networks:
            outputs["predictive_mask"] = self.networks["predictive_mask"](depth_features)
        if "pose" in self.networks:
            outputs |= self._motions(inputs, features)
        return outputs

    def _features_of_all_frames(self, inputs):
        batch = torch.cat([inputs["color_aug", frame, 0] for frame in self.frames])
        maps = [each.chunk(len(self.frames)) for each in self.networks["encoder"](batch)]
        return {frame: [each[index] for each in maps] for index, frame in enumerate(self.frames)}

    def _motions(self, inputs, features):
        motions = {}  # frame -> axis-angle and translation, (B, 1, 3) each
        together = None if self.pairs else self._predict(self.frames, inputs, features)
        for index, frame in enumerate(self.frames[1:]):
            which, predicted = index, together
            if self.pairs:  # in order of time, so that the network sees motion forwards
                which, predicted = 0, self._predict((frame, 0) if frame < 0 else (0, frame), inputs, features)
            motions[frame] = tuple(each[:, which].float() for each in predicted)
        return self._transforms(motions)

    def _transforms(self, motions):
        """Return the outputs for {frame: (axis-angle, translation)}."""
        outputs = {}
        axes = torch.cat([axisangle for axisangle, _ in motions.values()])
        with torch.autocast(axes.device.type, enabled=False):
            turns = rotation(axes).chunk(len(motions))  # of all frames in one pass
            for turn, (frame, (axisangle, translation)) in zip(turns, motions.items(), strict=True):
                outputs["axisangle", 0, frame], outputs["translation", 0, frame] = axisangle, translation
                offset = translation.transpose(1, 2)
                outputs["cam_T_cam", 0, frame] = rigid_motion(turn, offset, frame in self.inverted)
        return outputs

    def _predict(self, frames, inputs, features):
        """Return axis-angle and translation, (B, motions, 1, 3) each, from the frames in the order given."""
        if self.pose_type == "shared":
            return self.networks["pose"]([features[frame] for frame in frames])
        stacked = torch.cat([inputs["color_aug", frame, 0] for frame in frames], 1)
        if self.pose_type == "posecnn":
            return self.networks["pose"](stacked)
        return self.networks["pose"]([self.networks["pose_encoder"](stacked)])


def sum_of_motions(outputs):
    """Return the sum of the predicted motions' entries, a scalar that is finite only if all of them are."""
    motions = [each.detach().sum() for key, each in outputs.items() if key[0] == "cam_T_cam"]
    return torch.stack(motions).sum() if motions else torch.zeros((), device=next(iter(outputs.values())).device)


def _build_encoder(opt, stored):
    dilations = choose_dilations(opt.model, opt.height, opt.width, stored, opt.dilations)
    try:
        return LiteMono(opt.model, opt.height, opt.width, opt.drop_path, dilations=dilations)
    except ValueError as error:
        raise UserError(str(error), f"--model {opt.model}", "give as many dilations as the model has blocks") from error


def _build_resnet(opt, images):
    pretrained = opt.weights_init == "pretrained"
    try:
        return ResnetEncoder(opt.num_layers, pretrained, images)
    except (OSError, RuntimeError) as error:  # no network, a proxy's answer, a torn download
        cache = f"{torch.hub.get_dir()}/checkpoints"
        raise UserError(
            f"the ImageNet weights of ResNet-{opt.num_layers} cannot be had",
            str(error),
            f"add --weights_init scratch, or put torchvision's resnet{opt.num_layers} file into {cache}",
        ) from error
