"""The networks: Lite-Mono's encoder, the depth decoder, and the pose networks."""

from system.lazy import on_demand

__getattr__, __all__ = on_demand(
    __name__,
    {
        "LiteMono": "lite_mono",
        "DepthDecoder": "depth_decoder",
        "ResnetEncoder": "resnet_encoder",
        "PoseDecoder": "pose_networks",
        "PoseCNN": "pose_networks",
    },
)
