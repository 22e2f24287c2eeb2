"""Images, splits and items to train and evaluate on."""

from system.lazy import on_demand

__getattr__, __all__ = on_demand(
    __name__,
    {
        "MonoDataset": "mono_dataset",
        "KITTIRAWDataset": "kitti_dataset",
        "KITTIOdomDataset": "kitti_dataset",
        "KITTIDepthDataset": "kitti_dataset",
        "FramesDataset": "frames_dataset",
    },
)
KINDS = {
    "kitti": "KITTIRAWDataset",
    "kitti_odom": "KITTIOdomDataset",
    "kitti_depth": "KITTIDepthDataset",
    "frames": "FramesDataset",
}


def dataset_class(kind):
    """Return the class behind a name of `--dataset`."""
    return __getattr__(KINDS[kind])
