"""Depth under corrupted images: KITTI-C and its scores as RoboDepth defines them (Kong et al., NeurIPS 2023).

Eighteen corruptions, each at five severities, of KITTI's Eigen images, applied after resizing to 640x192.
"""

WIDTH, HEIGHT = 640, 192  # of the images that are corrupted, whatever the network's own size
SEVERITIES = (1, 2, 3, 4, 5)
CORRUPTIONS = (
    "brightness", "dark", "fog", "frost", "snow", "contrast", "defocus_blur", "glass_blur", "motion_blur", "zoom_blur",
    "elastic_transform", "color_quant", "gaussian_noise", "impulse_noise", "shot_noise", "iso_noise", "pixelate",
    "jpeg_compression",
)  # fmt: skip
