"""Images and checkpoints that pre-training cannot use: one line each."""

import os
import shutil

import pytest
import torch

from networks import DepthDecoder
from networks.model_table import MODELS
from tests.pretraining import (
    SMALL,
    export,
    fails,
    main,
    same,
)

# isort: split
import timm

import classifier
from checkpointing.files import write_state
from system.errors import UserError
from tests.shapes_and_textures import CLASSES


def test_mistakes_about_the_images_take_one_line(three_classes, tmp_path, capsys):
    out = ["--output_dir", str(tmp_path / "out")]
    data = ["--data_path", three_classes]
    assert "no such data folder" in fails([*SMALL, *out, "--data_path", str(tmp_path / "nowhere")], capsys)
    assert "--nb_classes 4" in fails([*SMALL, *out, *data, "--nb_classes", "4"], capsys)
    os.makedirs(tmp_path / "empty" / "train" / "cat")
    assert "no images" in fails([*SMALL, *out, "--data_path", str(tmp_path / "empty")], capsys)
    shutil.copytree(os.path.join(three_classes, "train"), tmp_path / "half" / "train")
    said = fails([*SMALL, *out, "--data_path", str(tmp_path / "half")], capsys)
    assert "no val images" in said and "--disable_eval" in said
    shutil.copytree(tmp_path / "half" / "train", tmp_path / "half" / "val")
    os.rename(tmp_path / "half" / "val" / CLASSES[0], tmp_path / "half" / "val" / "zebra")
    assert "zebra" in fails([*SMALL, *out, "--data_path", str(tmp_path / "half")], capsys)
    assert "fewer training images" in fails([*SMALL, *out, *data, "--batch_size", "40"], capsys)
    (tmp_path / "broken.zip").write_bytes(b"PK no")
    zipped = ["--data_path", str(tmp_path / "broken.zip"), "--disable_eval"]
    assert "archive cannot be read" in fails([*SMALL, *out, *zipped], capsys)


def test_a_corrupt_image_is_named_or_skipped(three_classes, tmp_path, capsys):
    shutil.copytree(three_classes, tmp_path / "data")
    broken = tmp_path / "data" / "train" / CLASSES[0] / "001.png"
    broken.write_bytes(broken.read_bytes()[:300])
    run = [*SMALL, "--data_path", str(tmp_path / "data"), "--epochs", "1", "--update_freq", "1", "--disable_eval"]
    said = fails([*run, "--output_dir", str(tmp_path / "a")], capsys)
    assert str(broken) in said and "cannot be read" in said
    assert main([*run, "--output_dir", str(tmp_path / "b"), "--on_bad_sample", "skip"]) == 0


def test_mistakes_about_checkpoints_take_one_line(finished_run, three_classes, tmp_path, capsys):
    flags = [*SMALL, "--data_path", three_classes, "--eval", "--resume"]
    (tmp_path / "text.pth").write_text("no weights")
    assert "not a readable weights file" in fails([*flags, str(tmp_path / "text.pth")], capsys)
    assert "no such weights file" in fails([*flags, str(tmp_path / "none.pth")], capsys)
    good = str(finished_run / "checkpoint-1.pth")
    assert "--model lite-mono-tiny" in fails([*flags, good, "--model", "lite-mono"], capsys)
    assert "--nb_classes 3" in fails([*flags, good, "--nb_classes", "5"], capsys)
    write_state(tmp_path / "other.pth", {"model": torch.nn.Linear(2, 2).state_dict()})
    said = fails([str(tmp_path / "other.pth"), str(tmp_path / "out.pth")], capsys, export)
    assert "not the weights of a Lite-Mono encoder" in said
    flags = [*SMALL, "--data_path", three_classes, "--output_dir", str(tmp_path / "new"), "--resume", good]
    assert "not a resumable state" in fails(flags, capsys)
    assert not os.path.exists(tmp_path / "out.pth")


def test_the_flags_of_the_export_do_not_eat_its_paths_and_only_encoders_go_out(finished_run, tmp_path, capsys):
    good, out = str(finished_run / "checkpoint-1.pth"), str(tmp_path / "out.pth")
    assert export(["--ema", good, out]) == 0
    held = torch.load(good, weights_only=True)
    wanted = {key: value for key, value in held["model_ema"].items() if not key.startswith(("head.", "norm."))}
    assert same(torch.load(out, weights_only=True), {"model": wanted})
    assert export([good, "--keep_head", out]) == 0
    assert same(torch.load(out, weights_only=True), {"model": held["model"]})
    write_state(tmp_path / "depth.pth", DepthDecoder(MODELS["lite-mono-tiny"].channels).state_dict())
    assert "not the weights of a Lite-Mono encoder" in fails([str(tmp_path / "depth.pth"), out], capsys, export)
    held["model"]["stem2.0.conv.weight"][0] = torch.nan
    write_state(tmp_path / "nan.pth", held)
    assert "not finite" in fails([str(tmp_path / "nan.pth"), str(tmp_path / "none.pth")], capsys, export)
    said = fails(["--ema", str(finished_run / "checkpoint-best-ema.pth"), out], capsys, export)
    assert "no moving average" in said and "drop --ema" in said
    assert "would be overwritten" in fails([good, good], capsys, export)
    assert sorted(os.listdir(tmp_path)) == ["depth.pth", "nan.pth", "out.pth"]


def test_starting_weights_keep_a_head_for_the_same_classes_only(finished_run, tmp_path):
    path = str(finished_run / "checkpoint-1.pth")
    held = torch.load(path, weights_only=True)
    names = sorted(held["classes"])
    model = timm.create_model("lite-mono-tiny", num_classes=3)
    turned = names[::-1]
    assert classifier.load_starting_weights(model, path, turned) == "encoder, norm, head"
    rows = [held["classes"].index(name) for name in turned]
    assert torch.equal(model.head.weight, held["model"]["head.weight"][rows])
    other = timm.create_model("lite-mono-tiny", num_classes=3)
    before = other.head.weight.clone()
    assert classifier.load_starting_weights(other, path, ["a", "b", "c"]) == "encoder, norm"
    assert torch.equal(other.head.weight, before)
    write_state(tmp_path / "encoder.pth", {"model": classifier.encoder_entries(held["model"])})
    assert classifier.load_starting_weights(other, str(tmp_path / "encoder.pth"), names) == "encoder"
    with pytest.raises(UserError, match="another model"):
        classifier.load_starting_weights(timm.create_model("lite-mono-small", num_classes=3), path, names)


@pytest.mark.parametrize("change, said", [
    ({"classes": 5}, "class names"), ({"classes": [1, 2, 3]}, "class names"), ({"classes": ["a"]}, "class names"),
    ({"head.weight": torch.zeros(())}, "another shape"), ({"extra": torch.zeros(2)}, "not the weights"),
    ({"stem2.0.conv.weight": None}, "not the weights"),
    ({"norm.weight": torch.zeros(128).to_sparse()}, "another kind"),
])  # fmt: skip
def test_odd_content_of_a_checkpoint_is_told(finished_run, tmp_path, change, said):
    held = torch.load(finished_run / "checkpoint-1.pth", weights_only=True)
    (held if "classes" in change else held["model"]).update(change)
    torch.save(held, tmp_path / "odd.pth")
    model = timm.create_model("lite-mono-tiny", num_classes=3)
    for load in (classifier.load_classifier, lambda *both: classifier.load_starting_weights(*both, list("abc"))):
        with pytest.raises(UserError, match=said):
            load(model, str(tmp_path / "odd.pth"))
