"""Weights of an encoder pre-trained on ImageNet: what fits is loaded and counted, the rest is refused."""

import argparse
import logging

import pytest
import torch

from checkpointing import files
from checkpointing.fetched import check_encoder
from checkpointing.imagenet import load_pretrained_encoder
from networks import LiteMono
from system.errors import UserError
from tests.bomb import Bomb
from tests.seeded_folders import MODEL, seeded_networks


@pytest.mark.parametrize("wrapped", [True, False])
def test_imagenet_weights_report_matched_missing_and_unexpected(tmp_path, wrapped, caplog):
    caplog.set_level(logging.INFO)
    encoder, source = LiteMono(MODEL), seeded_networks()[0].state_dict()
    weights = {**source, "head.weight": torch.zeros(2), "norm.bias": torch.zeros(2), "odd": torch.zeros(1)}
    gone = [key for key in source if key.startswith("stages.0.0.")]
    weights = {key: value for key, value in weights.items() if key not in gone}
    torch.save({"model": weights, "epoch": 3} if wrapped else weights, tmp_path / "w.pth")
    matched, missing, unexpected = load_pretrained_encoder(encoder, str(tmp_path / "w.pth"))
    assert (len(matched), sorted(missing), unexpected) == (len(source) - len(gone), sorted(gone), ["odd"])
    assert all(torch.equal(encoder.state_dict()[key], source[key]) for key in matched)
    assert f"{len(matched)} keys matched, {len(gone)} missing, 1 unexpected" in caplog.text


@pytest.mark.parametrize("weights, words", [
    ({"other": torch.zeros(1)}, "no entry of the pre-trained file fits"),
    ({"model": 5}, "not a state dict"),
    ({"model": {3: torch.zeros(1)}}, "not a state dict"),
    ({3: torch.zeros(1)}, "not a state dict"),
])  # fmt: skip
def test_imagenet_weights_that_match_nothing_are_refused(tmp_path, weights, words):
    torch.save(weights, tmp_path / "w.pth")
    with pytest.raises(UserError, match=words):
        load_pretrained_encoder(LiteMono(MODEL), str(tmp_path / "w.pth"))


def test_imagenet_weights_of_another_model_advise(tmp_path):
    torch.save(LiteMono("lite-mono").state_dict(), tmp_path / "w.pth")
    state = torch.load(tmp_path / "w.pth", weights_only=True)
    assert files.identify_model(state) == "lite-mono"


def raw_checkpoint(model=MODEL, prefix=""):
    """Return what the published pre-training code writes: optimiser and options beside the weights."""
    torch.manual_seed(0)
    encoder = LiteMono(model)
    weights = encoder.state_dict() | {"norm.weight": torch.ones(128), "norm.bias": torch.zeros(128)}
    weights |= {"head.weight": torch.zeros(1000, 128), "head.bias": torch.zeros(1000)}
    optimiser = torch.optim.AdamW(encoder.parameters())
    sum(p.sum() for p in encoder.parameters()).backward()
    optimiser.step()
    args = argparse.Namespace(model=model.replace("-", "_"), lr=6e-3, data_path="/data", distributed=True, gpu=0)
    weights = {prefix + key: value for key, value in weights.items()}
    return {"model": weights, "optimizer": optimiser.state_dict(), "epoch": 99, "scaler": {}, "args": args}


@pytest.mark.parametrize("prefix", ["", "module."])
def test_raw_checkpoints_of_published_pretraining_are_read(tmp_path, prefix):
    torch.save(raw_checkpoint(prefix=prefix), tmp_path / "checkpoint.pth")
    encoder = LiteMono(MODEL)
    matched, missing, unexpected = load_pretrained_encoder(encoder, str(tmp_path / "checkpoint.pth"))
    assert len(matched) == len(encoder.state_dict()) and not missing and not unexpected
    check_encoder(str(tmp_path / "checkpoint.pth"), MODEL)


def test_options_of_another_kind_are_still_refused(tmp_path):
    torch.save(raw_checkpoint() | {"args": Bomb(open, str(tmp_path / "bang"), "w")}, tmp_path / "checkpoint.pth")
    with pytest.raises(UserError, match="not a readable weights file"):
        load_pretrained_encoder(LiteMono(MODEL), str(tmp_path / "checkpoint.pth"))
    assert not (tmp_path / "bang").exists()


def test_imagenet_weights_of_the_wrong_file_or_not_finite_are_refused(weights, tmp_path, caplog):
    with pytest.raises(UserError, match="holds a depth decoder: give encoder.pth"):
        load_pretrained_encoder(LiteMono(MODEL), str(weights / "depth.pth"))
    state = torch.load(weights / "encoder.pth", weights_only=True)
    torch.save({"model": {**state, "stem2.0.conv.weight": state["stem2.0.conv.weight"] * float("nan")}},
               tmp_path / "w.pth")  # fmt: skip
    with pytest.raises(UserError, match="not finite.*stem2.0.conv.weight"):
        load_pretrained_encoder(LiteMono(MODEL), str(tmp_path / "w.pth"))
    torch.save(LiteMono("lite-mono-small").state_dict(), tmp_path / "w.pth")
    load_pretrained_encoder(LiteMono("lite-mono"), str(tmp_path / "w.pth"))
    assert "is lite-mono-small's, the encoder lite-mono's" in caplog.text
