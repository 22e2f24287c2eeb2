"""ImageNet pre-training: every value that an option cannot have is told in a line."""

import os
import shlex

import pytest

from system.errors import UserError
from tests.pretraining import FOLDER, words

# isort: split
from pretraining_options import parse


@pytest.mark.parametrize("flags, value", [([], False), (["--model_ema"], True), (["--model_ema", "true"], True),
                                          (["--model_ema", "false"], False)])  # fmt: skip
def test_booleans_stand_bare_or_with_a_word(flags, value):
    assert parse(flags).model_ema is value


def test_contradictions_are_told_together():
    with pytest.raises(UserError) as caught:
        parse(["--input_size", "250", "--drop_path", "1.5", "--warmup_epochs", "100"])
    assert len(caught.value.problems) == 3


@pytest.mark.parametrize("line", [
    "--aa foo", "--aa rand-mx", "--aa rand-m9-q3", "--aa rand-n0", "--aa rand-p2", "--aa v0-m9", "--aa rand-m9-tfoo",
    "--aa augmix-w0", "--aa rand-mstd", "--color_jitter -3", "--color_jitter inf", "--opt_betas 0.9",
    "--opt_betas nan 0.9",
    "--opt_betas 0.9 0.99 0.999", "--opt_betas 0.9 1", "--opt_betas 0.9 0.99 --opt adan", "--opt adahessian",
    "--cutmix_minmax 5 -1", "--cutmix_minmax 0.5 0.5", "--cutmix_minmax 0.5 0.501", "--cutmix_minmax nan 1",
    "--crop_pct 1e-9", "--crop_pct 0", "--crop_pct nan", "--crop_pct 1.1", "--input_size 3200000", "--input_size 0",
    "--multi_scale_sampler --max_crop_size_w 64", "--multi_scale_sampler --max_crop_size_h 3200000",
    "--nb_classes 1000000000000", "--nb_classes 0", "--clip_grad -1", "--clip_grad 0", "--clip_grad nan",
    "--weight_decay -1", "--weight_decay nan", "--weight_decay_end -1", "--mixup nan", "--mixup -1", "--cutmix inf",
    "--warmup_start_lr nan", "--warmup_start_lr -1", "--lr nan", "--lr inf", "--lr 0", "--min_lr 1", "--min_lr -1",
    "--momentum 1", "--opt_eps nan", "--opt_eps -1", "--layer_scale_init_value nan", "--smoothing 1", "--drop_path nan",
    "--model_ema_decay 1", "--reprob 2", "--mixup_prob nan", "--recount 1000000000", "--num_workers 1000000000",
    "--seed 99999999999", "--seed -1", "--start_epoch 99 --epochs 9", "--start_epoch 100", "--warmup_epochs 100",
    "--mixup 1 --batch_size 3", "--eval --disable_eval", "--finetune a --resume b", "--finetune a --eval", "--usi_eval",
    "--eval --usi_eval --model_ema_eval", "--wandb_ckpt", "--enable_wandb --wandb_ckpt --save_ckpt false",
    "--layer_decay 0.5", "--model_ema_force_cpu --model_ema_eval", "--foo", "--batch_size 1.5",
])  # fmt: skip
def test_a_value_that_cannot_be_is_told_in_a_line(line):
    with pytest.raises(UserError) as caught:
        parse(words(line))
    for problem in getattr(caught.value, "problems", [caught.value]):
        assert problem.what and problem.fix and len(str(problem)) < 250


@pytest.mark.parametrize("line", [
    "--aa none", "--aa rand-m9-mstd0.5-inc1", "--aa rand-m7-n4-p0.3-mmax20", "--aa rand-mstd101-tweights",
    "--aa rand-m9-t3aw", "--aa augmix-m5-w4-d2", "--aa augmix-b1-mstd1", "--aa v0", "--aa originalr-mstd0.5", "--aa 3a",
    "--opt adan --opt_betas 0.9 0.9 0.9", "--opt lookahead_adamw", "--clip_grad 5", "--cutmix_minmax 0.2 0.8",
    "--eval --usi_eval", "--enable_wandb --wandb_ckpt", "--layer_decay 1.0", "--find_unused_params", "--three_aug",
    "--use_amp false", "--amp bf16", "--finetune a",
])  # fmt: skip
def test_what_can_be_is_taken(line):
    parse(words(line))


@pytest.mark.parametrize("flag", ["--local-rank=1", "--local_rank", "--world_size", "--dist_url"])
def test_options_of_older_launchers_lead_to_torchrun(flag):
    with pytest.raises(UserError, match="torchrun"):
        parse([flag] if "=" in flag else [flag, "2"])


def test_every_command_of_the_folders_readme_is_understood():
    with open(os.path.join(FOLDER, "README.md"), encoding="utf-8") as file:
        blocks = file.read().replace("\\\n", " ").split("```bash\n")[1:]
    lines = [line for block in blocks for line in block.split("```")[0].splitlines() if "main.py" in line]
    assert len(lines) == 5
    for line in lines:
        parse(shlex.split(line.split("main.py")[1], comments=True))
