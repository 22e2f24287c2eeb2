"""The published ways to train, by name: `--recipe NAME` sets these options, and each can still be given. Free of torch.

They are the authors' command lines: an encoder pre-trained on ImageNet (30 epochs, batch 12) or a random one (35
epochs, a five times higher depth rate; the pose network starts from ImageNet all the same).
"""

from checkpointing.published import ENCODERS
from losses.supervision_options import BETTER
from networks.model_table import MODELS

SIZES = {"640x192": (640, 192), "1024x320": (1024, 320)}
_PRETRAINED = {"num_epochs": 30, "lr": [1e-4, 5e-6, 31, 1e-4, 1e-5, 31]}
_SCRATCH = {"num_epochs": 35, "lr": [5e-4, 5e-6, 36, 1e-4, 1e-5, 36]}
# The authors suggest a restart for the largest model, and picking the best epoch.
_PRETRAINED_8M = {"num_epochs": 30, "lr": [1e-4, 5e-6, 16, 1e-4, 1e-5, 16]}


def _recipe(model, size, schedule):
    width, height = SIZES[size]
    common = {"batch_size": 12, "drop_path": 0.2, "weight_decay": 1e-2, "weights_init": "pretrained"}
    return {"model": model, "width": width, "height": height, **common, **schedule}


RECIPES = {
    f"{model}_{size}{suffix}": _recipe(model, size, schedule)
    for model in MODELS
    for size in SIZES
    for suffix, schedule in (
        ("", _PRETRAINED_8M if model == "lite-mono-8m" else _PRETRAINED),
        ("_scratch", _SCRATCH),
    )
}
# The same with labels of a larger network and averaged weights (docs/better.md).
RECIPES |= {f"better_{name}": {**RECIPES[name], **BETTER} for name in [*RECIPES] if not name.endswith("_scratch")}


def command_line(name):
    """Return the training command that a recipe stands for, as it can be typed."""
    words = ["python train.py"]
    for option, value in RECIPES[name].items():
        words.append(f"--{option} {' '.join(map(str, value)) if isinstance(value, list) else value}")
    if not name.endswith("_scratch"):
        published = f"{RECIPES[name]['model']}_imagenet"
        words.append(f"--mypretrain {published if published in ENCODERS else 'WEIGHTS'}")
    if name.startswith("better_"):
        words.append("--pseudo_depth LABELS")
    return " ".join(words)
