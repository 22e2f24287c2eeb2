"""From a PIL image to the normalised tensor that the classifier sees, in training and in validation.

Training is timm's transform with RandAugment, validation the resize and centre crop of the published recipe.
"""

from timm.data import (
    IMAGENET_DEFAULT_MEAN,
    IMAGENET_DEFAULT_STD,
    IMAGENET_INCEPTION_MEAN,
    IMAGENET_INCEPTION_STD,
    auto_augment,
    create_transform,
)
from torchvision import transforms

CROP_PCT = 224 / 256  # share of the resized image's side that validation sees
WARP_FROM = 384  # pixels: validation at this size and above resizes both sides and crops nothing
BICUBIC = transforms.InterpolationMode.BICUBIC


def make_transform(opt, size, is_training):
    """Return the transform of a PIL image to a normalised tensor.

    Args:
        opt: the namespace of `pretraining_options.parse`.
        size: (height, width) of training images, the side of validation images.
        is_training: whether to augment.
    """
    mean, std = IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
    if not opt.imagenet_default_mean_and_std:
        mean, std = IMAGENET_INCEPTION_MEAN, IMAGENET_INCEPTION_STD
    if not is_training:
        return _validation_transform(size, opt.crop_pct or CROP_PCT, mean, std)
    transform = create_transform(
        input_size=size,
        is_training=True,
        color_jitter=opt.color_jitter or None,
        auto_augment=None if opt.aa.lower() in ("", "none") else opt.aa,
        interpolation=opt.train_interpolation,
        mean=mean,
        std=std,
    )
    for operation in operations(transform):
        if operation.aug_fn is auto_augment.posterize:
            operation.aug_fn = posterize
    if opt.three_aug:
        transform.transforms.insert(2, three_augment())  # after crop and flip, before RandAugment
    return transform


def _validation_transform(size, crop_pct, mean, std):
    if size >= WARP_FROM:
        steps = [transforms.Resize((size, size), BICUBIC)]
    else:
        steps = [transforms.Resize(int(size / crop_pct), BICUBIC), transforms.CenterCrop(size)]
    return transforms.Compose([*steps, transforms.ToTensor(), transforms.Normalize(mean, std)])


def three_augment():
    """Return one of greyscale, solarising and Gaussian blur, drawn for each image (DeiT III, Touvron et al. 2022)."""
    return transforms.RandomChoice([
        transforms.Grayscale(num_output_channels=3),
        transforms.RandomSolarize(threshold=192),
        transforms.GaussianBlur(kernel_size=(5, 9)),
    ])  # fmt: skip


def operations(transform):
    """Yield every single operation of the automatic augmentation in a training transform."""
    for step in transform.transforms:
        if isinstance(step, auto_augment.AutoAugment):
            for policy in step.policy:
                yield from policy
        elif isinstance(step, auto_augment.RandAugment | auto_augment.AugMixAugment):
            yield from step.ops


def posterize(image, bits_to_keep, **settings):
    """Keep the highest bits of every channel; none of them at the strongest magnitude, which is black.

    Today's Pillow refuses zero bits, which earlier ones took to mean a black image.
    """
    if bits_to_keep <= 0:
        return image.point([0] * 256 * len(image.getbands()))
    return auto_augment.posterize(image, bits_to_keep, **settings)
