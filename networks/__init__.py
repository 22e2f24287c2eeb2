"""The networks, each loaded when it is first asked for, so that a command's --help does not wait for torch."""

import importlib

_HOMES = {
    "LiteMono": "networks.lite_mono",
    "DepthDecoder": "networks.depth_decoder",
    "ResnetEncoder": "networks.resnet_encoder",
    "PoseDecoder": "networks.pose_networks",
    "PoseCNN": "networks.pose_networks",
}
__all__ = list(_HOMES)


def __getattr__(name):
    if name not in _HOMES:
        raise AttributeError(f"module 'networks' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
