"""Weights folders: what is written is read, and nothing else is."""

import logging
import pickle

import pytest
import torch

from checkpointing import files
from checkpointing.files import load_strictly, read_state
from checkpointing.folders import load_depth_network, load_networks
from checkpointing.imagenet import load_pretrained_encoder
from networks import DepthDecoder, LiteMono
from system.errors import UserError
from tests.seeded_folders import HEIGHT, MODEL, WIDTH, seeded_networks, write_weights
from tests.short_runs import differences


@pytest.fixture
def folder(tmp_path):
    return write_weights(tmp_path / "weights_0")


def change(path, **entries):
    """Alter entries of a stored state; None removes one."""
    state = {**torch.load(path, weights_only=True), **entries}
    torch.save({key: value for key, value in state.items() if value is not None}, path)


def test_what_is_saved_is_loaded(folder):
    network = load_depth_network(str(folder), MODEL)
    encoder, decoder = seeded_networks()
    assert not differences(dict(network.encoder.state_dict()), dict(encoder.state_dict()))
    assert not differences(dict(network.decoder.state_dict()), dict(decoder.state_dict()))
    assert (network.height, network.width, network.dilations) == (HEIGHT, WIDTH, encoder.dilations)
    assert not network.encoder.training and not network.decoder.training


def test_the_encoder_file_carries_plain_entries_and_the_published_keys(folder):
    state = torch.load(folder / "encoder.pth", weights_only=True)
    plain = {key: value for key, value in state.items() if not isinstance(value, torch.Tensor)}
    assert plain["height"] == HEIGHT and plain["width"] == WIDTH and plain["use_stereo"] is False
    assert plain["dilations"] == [list(stage) for stage in LiteMono(MODEL).dilations]
    assert state.keys() - plain.keys() == LiteMono(MODEL).state_dict().keys()
    assert torch.load(folder / "depth.pth", weights_only=True).keys() == DepthDecoder((32, 64, 128)).state_dict().keys()


def test_published_files_without_dilations_take_those_of_their_size(tmp_path):
    folder = write_weights(tmp_path / "wide", height=320, width=1024)
    change(folder / "encoder.pth", dilations=None)
    assert load_depth_network(str(folder), MODEL).dilations == LiteMono(MODEL, 320, 1024).dilations


def test_stored_dilations_are_taken_and_said_when_they_differ(folder, caplog):
    caplog.set_level(logging.INFO)
    load_depth_network(str(folder), MODEL)
    assert "dilations" not in caplog.text
    change(folder / "encoder.pth", dilations=[[1, 1, 1], [1, 1, 1], [1] * 6])
    assert load_depth_network(str(folder), MODEL).dilations == ((1, 1, 1), (1, 1, 1), (1,) * 6)
    assert "from the weights differ from the published" in caplog.text


def test_given_dilations_replace_the_stored_ones_aloud(folder, caplog):
    caplog.set_level(logging.INFO)
    given = ((1, 2, 5), (1, 2, 5), (1, 2, 5, 2, 4, 10))
    assert load_depth_network(str(folder), MODEL, dilations=given).dilations == given
    assert "from the command line replace" in caplog.text


@pytest.mark.parametrize("stored", [[[1], [1], [1]], 5, ["a"], [[1, 2, 3], [1, 2, 3]], [[0.5] * 3] * 3])
def test_dilations_that_fit_no_block_are_refused(folder, stored):
    change(folder / "encoder.pth", dilations=stored)
    with pytest.raises(UserError):
        load_depth_network(str(folder), MODEL)


@pytest.mark.parametrize("stored", [None, 0, 100, -32, "192", 64.0])
def test_a_file_without_a_usable_size_is_refused(folder, stored):
    change(folder / "encoder.pth", height=stored)
    with pytest.raises(UserError, match="height"):
        load_depth_network(str(folder), MODEL)


@pytest.mark.parametrize("other", ["lite-mono", "lite-mono-small", "lite-mono-8m"])
def test_weights_of_another_model_are_named(folder, other):
    with pytest.raises(UserError, match="they are lite-mono-tiny's: pass --model lite-mono-tiny"):
        load_depth_network(str(folder), other)


def test_missing_and_unexpected_keys_are_refused_and_the_network_stays(folder):
    network = DepthDecoder((32, 64, 128))
    before = {key: value.clone() for key, value in network.state_dict().items()}
    state = read_state(str(folder / "depth.pth"))
    removed = {key: value for key, value in state.items() if "decoder.8" not in key}
    reshaped = {**state, "decoder.0.conv.conv.bias": torch.zeros(3)}
    number = {**state, "decoder.0.conv.conv.bias": 5}
    for bad in (removed, {**state, "extra": torch.zeros(1)}, reshaped, number):
        with pytest.raises(UserError, match="do not fit"):
            load_strictly(network, bad, "depth.pth")
    assert not differences(dict(network.state_dict()), before)


def test_a_profilers_entries_are_tolerated(folder):
    entries = {"total_ops": torch.zeros(1), "decoder.0.total_params": torch.zeros(1)}
    change(folder / "depth.pth", **entries)
    load_depth_network(str(folder), MODEL)


class Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.mark.parametrize("save", [torch.save, lambda value, path: path.write_bytes(pickle.dumps(value))])
def test_a_pickle_bomb_does_not_go_off(folder, tmp_path, save):
    save({"height": Bomb(tmp_path / "bang")}, folder / "encoder.pth")
    with pytest.raises(UserError, match="not a readable weights file"):
        load_depth_network(str(folder), MODEL)
    assert not (tmp_path / "bang").exists()


@pytest.mark.parametrize(
    "content", [b"", b"PK\x03\x04", b"\x80\x02}q\x00.", b"<html>not found</html>", b"\x80\x02]q\x00.", b"\x00" * 100]
)
def test_what_is_no_weights_file_is_refused(folder, content):
    (folder / "depth.pth").write_bytes(content)
    with pytest.raises(UserError):
        load_depth_network(str(folder), MODEL)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_a_truncated_file_is_refused(folder, share):
    path = folder / "encoder.pth"
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(UserError, match="not a readable weights file"):
        load_depth_network(str(folder), MODEL)


def test_a_list_is_no_state_dict(folder):
    torch.save([torch.zeros(1)], folder / "depth.pth")
    with pytest.raises(UserError, match="not a state dict"):
        load_depth_network(str(folder), MODEL)


def test_missing_folder_and_file_are_named(folder):
    with pytest.raises(UserError, match="no such weights folder; .*nowhere"):
        load_depth_network(str(folder / "nowhere"), MODEL)
    (folder / "depth.pth").unlink()
    with pytest.raises(UserError, match="no such weights file; .*depth.pth"):
        load_depth_network(str(folder), MODEL)


def test_networks_are_loaded_all_or_none(folder):
    encoder, decoder = LiteMono(MODEL), DepthDecoder((32, 64, 128))
    before = {key: value.clone() for key, value in encoder.state_dict().items()}
    (folder / "depth.pth").write_bytes(b"")
    with pytest.raises(UserError):
        load_networks(str(folder), {"encoder": encoder, "depth": decoder})
    assert not differences(dict(encoder.state_dict()), before)


def test_half_precision_weights_load_as_float32(folder):
    state = torch.load(folder / "depth.pth", weights_only=True)
    torch.save({key: value.half() for key, value in state.items()}, folder / "depth.pth")
    network = load_depth_network(str(folder), MODEL)
    assert all(p.dtype == torch.float32 for p in network.decoder.parameters())


def test_writing_moves_tensors_to_the_cpu_and_leaves_nothing_beside(tmp_path):
    files.write_state(
        str(tmp_path / "a.pth"), {"x": torch.ones(2, requires_grad=True), "n": [1, (2, torch.ones(1))]}
    )
    state = read_state(str(tmp_path / "a.pth"))
    assert state["x"].device.type == "cpu" and not state["x"].requires_grad and state["n"][1][0] == 2
    assert [path.name for path in tmp_path.iterdir()] == ["a.pth"]


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
