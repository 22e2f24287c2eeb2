"""Published weights by name: fetched once, checked, and never at the price of what is there already."""

import errno
import io
import os
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest
import torch

import weights
from checkpointing import fetched, published
from checkpointing.folders import load_depth_network
from networks import DepthDecoder, LiteMono
from system import files
from system.errors import UserError
from tests.http_site import Site

ROOT = Path(__file__).resolve().parent.parent
TINY = "lite-mono-tiny_640x192"


def saved(state):
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


def depth_files(model="lite-mono-tiny", width=640, height=192):
    torch.manual_seed(1)
    encoder = LiteMono(model, height, width)
    decoder = DepthDecoder(encoder.num_ch_enc)
    entries = {"height": height, "width": width, "use_stereo": False}
    return {"encoder.pth": saved({**encoder.state_dict(), **entries}), "depth.pth": saved(decoder.state_dict())}


def packed(members, top="some folder/"):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in members.items():
            archive.writestr(top + name, data)
    return buffer.getvalue()


def path_of(name):
    return f"/{(published.WEIGHTS.get(name) or published.ENCODERS[name]).share}/download"


@pytest.fixture(scope="module")
def tiny_files():
    return depth_files()


@pytest.fixture
def site(monkeypatch, tmp_path, tiny_files):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("LITE_MONO_CACHE", str(tmp_path / "cache"))
    with Site({path_of(TINY): packed(tiny_files)}) as running:
        monkeypatch.setenv("LITE_MONO_SHARES", running.url)
        yield running


def cached(tmp_path):
    top = tmp_path / "cache" / "weights"
    return sorted(str(path.relative_to(top)) for path in top.rglob("*") if path.is_file() and path.suffix != ".lock")


def refused(name=TINY, **patience):
    with pytest.raises(UserError) as caught:
        fetched.fetch(name, **{"retries": 2, "pause": 0.01, "timeout": 5, **patience})
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_table_is_the_published_one():
    assert list(published.WEIGHTS) == [
        f"{model}{size}"
        for size in ("_640x192", "_1024x320")
        for model in ("lite-mono", "lite-mono-small", "lite-mono-tiny", "lite-mono-8m")
    ]
    assert list(published.ENCODERS) == ["lite-mono_imagenet", "lite-mono-small_imagenet", "lite-mono-8m_imagenet"]
    assert published.WEIGHTS["lite-mono_640x192"].results == (0.107, 0.765, 4.561, 0.183, 0.886, 0.963, 0.983)
    assert published.WEIGHTS["lite-mono-8m_1024x320"].results[0] == 0.097
    assert published.page("lite-mono_1024x320") == "https://surfdrive.surf.nl/files/index.php/s/IK3VtPj6b5FkVnl"
    shares = [row.share for row in (*published.WEIGHTS.values(), *published.ENCODERS.values())]
    assert len(set(shares)) == 11


def test_a_name_is_fetched_once(site, tmp_path, capsys):
    folder = fetched.weights_folder(TINY)
    assert folder == str(tmp_path / "cache" / "weights" / TINY)
    assert cached(tmp_path) == [f"{TINY}/depth.pth", f"{TINY}/encoder.pth"]
    assert load_depth_network(folder, "lite-mono-tiny").width == 640
    assert fetched.weights_folder(TINY) == folder and len(site.requests) == 1
    assert fetched.pretrained_encoder(TINY) == os.path.join(folder, "encoder.pth")


def test_a_server_without_sizes_and_ranges_will_do(site, tmp_path):
    site.no_length = site.ignore_ranges = True
    assert fetched.weights_folder(TINY)


def test_an_existing_folder_wins_over_the_name(site, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    os.mkdir(TINY)
    assert fetched.weights_folder(TINY) == TINY and site.requests == []
    assert fetched.weights_folder(None) is None and fetched.pretrained_encoder(None) is None


def test_files_put_there_by_hand_are_used(site, tmp_path, tiny_files):
    folder = tmp_path / "cache" / "weights" / TINY
    folder.mkdir(parents=True)
    for name, data in tiny_files.items():
        (folder / name).write_bytes(data)
    assert fetched.weights_folder(TINY) == str(folder) and site.requests == []


@pytest.mark.parametrize("name, words", [("no-such", "published name"), ("lite-mono_imagenet", "--mypretrain")])
def test_unknown_names_are_told(site, name, words):
    with pytest.raises(UserError, match=words):
        fetched.weights_folder(name)
    with pytest.raises(UserError, match="no such file"):
        fetched.pretrained_encoder("no-such")


def test_a_dead_link_names_the_page_and_the_place(site, tmp_path):
    site.files.clear()
    message = refused()
    assert "404" in message and published.page(TINY) in message
    assert str(tmp_path / "cache" / "weights" / TINY) in message and "encoder.pth and depth.pth" in message
    assert cached(tmp_path) == []


def test_being_offline_names_the_page_and_the_place(tmp_path, monkeypatch):
    monkeypatch.setenv("LITE_MONO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with Site() as gone:
        monkeypatch.setenv("LITE_MONO_SHARES", gone.url)
    message = refused()
    assert "could not be fetched" in message and published.page(TINY) in message and cached(tmp_path) == []


WRONG = {
    "a web page": lambda good: b"  <!DOCTYPE html><html>moved</html>",
    "nothing": lambda good: b"",
    "noise": lambda good: os.urandom(5000),
    "a cut archive": lambda good: packed(good)[:-2000],
    "another archive": lambda good: packed({"readme.txt": b"x"}),
    "an archive without the decoder": lambda good: packed({"encoder.pth": good["encoder.pth"]}),
    "a hostile archive": lambda good: packed(good, "../"),
    "another model": lambda good: packed(depth_files("lite-mono-small")),
    "another size": lambda good: packed(depth_files(width=1024, height=320)),
    "a truncated file": lambda good: packed({**good, "encoder.pth": good["encoder.pth"][:20000]}),
    "swapped files": lambda good: packed({"encoder.pth": good["depth.pth"], "depth.pth": good["encoder.pth"]}),
    "a pickle bomb": lambda good: packed({**good, "depth.pth": b"cos\nsystem\n(S'touch /tmp/bomb'\ntR."}),
}


@pytest.mark.parametrize("kind", WRONG)
def test_what_is_not_the_weights_is_refused(site, tmp_path, tiny_files, kind):
    site.files[path_of(TINY)] = WRONG[kind](tiny_files)
    message = refused()
    assert TINY in message and published.page(TINY) in message
    assert cached(tmp_path) == [] and not any((tmp_path / "cache").rglob("*partial*"))
    site.files[path_of(TINY)] = packed(tiny_files)
    assert fetched.weights_folder(TINY)


def test_weights_that_are_not_finite_are_refused(site, tiny_files):
    state = torch.load(io.BytesIO(tiny_files["depth.pth"]), weights_only=True)
    next(iter(state.values())).view(-1)[0] = float("nan")
    site.files[path_of(TINY)] = packed({**tiny_files, "depth.pth": saved(state)})
    assert "not finite" in refused()


def test_a_broken_download_never_replaces_what_is_there(site, tmp_path, tiny_files):
    folder = Path(fetched.weights_folder(TINY))
    (folder / "depth.pth").unlink()
    site.files[path_of(TINY)] = packed({"encoder.pth": b"other", "depth.pth": b"other"})
    refused()
    assert (folder / "encoder.pth").read_bytes() == tiny_files["encoder.pth"]


def test_a_full_disk_is_not_blamed_on_the_link(site, tmp_path, monkeypatch):
    def full(handle):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files.os, "fsync", full)
    message = refused()
    assert "disk is full" in message and "browser" not in message
    assert not any(name.endswith(".pth") for name in cached(tmp_path))


@pytest.mark.parametrize("zipped", [False, True])
def test_an_imagenet_encoder_comes_raw_or_zipped(site, tmp_path, zipped):
    head = {"head.weight": torch.zeros(3, 2), "norm.bias": torch.zeros(2)}
    state = {**LiteMono("lite-mono-small", 192, 640).state_dict(), **head}
    raw = saved({"model": state})
    site.files[path_of("lite-mono-small_imagenet")] = packed({"small.pth": raw}) if zipped else raw
    path = fetched.pretrained_encoder("lite-mono-small_imagenet")
    assert Path(path).read_bytes() == raw and cached(tmp_path) == ["lite-mono-small_imagenet.pth"]
    assert weights.main(["check", "lite-mono-small_imagenet"]) == 0


@pytest.mark.parametrize("model", ["lite-mono", "lite-mono-8m"])
def test_an_imagenet_encoder_of_another_model_is_refused(site, tmp_path, model):
    site.files[path_of("lite-mono-small_imagenet")] = saved({"model": LiteMono(model, 192, 640).state_dict()})
    assert "fit" in refused("lite-mono-small_imagenet") and cached(tmp_path) == []


# --- the command line ----------------------------------------------------------------------------------------------


def test_list_shows_every_name_and_what_is_here(site, capsys):
    assert weights.main(["fetch", TINY]) == 0
    capsys.readouterr()
    assert weights.main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 13 and sum(" yes " in line for line in lines) == 1
    assert next(line for line in lines if line.startswith(TINY)).split()[1:3] == ["0.110", "yes"]


def test_check_says_what_a_folder_is(site, tmp_path, capsys, tiny_files):
    assert weights.main(["check", TINY]) == 2 and "fetch" in capsys.readouterr().err
    weights.main(["fetch", TINY])
    for what in (TINY, str(tmp_path / "cache" / "weights" / TINY)):
        assert weights.main(["check", what]) == 0
        assert "lite-mono-tiny for 640x192" in capsys.readouterr().out
    encoder = tmp_path / "cache" / "weights" / TINY / "encoder.pth"
    assert weights.main(["check", str(encoder)]) == 0 and "an encoder of lite-mono-tiny" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["dance"],
        ["fetch"],
        ["fetch", "no-such"],
        ["check"],
        ["check", "no-such"],
        ["check", "EMPTY"],
        ["check", "JUNK"],
    ],
)
def test_user_mistakes_are_one_line(site, tmp_path, capsys, arguments):
    (tmp_path / "empty").mkdir()
    (tmp_path / "junk.pth").write_bytes(b"junk")
    places = {"EMPTY": str(tmp_path / "empty"), "JUNK": str(tmp_path / "junk.pth")}
    assert weights.main([places.get(word, word) for word in arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1


def test_fetching_several_goes_on_after_a_failure(site, capsys):
    assert weights.main(["fetch", "lite-mono_640x192", TINY, "--retries", "1"]) == 2
    error = capsys.readouterr().err
    assert "lite-mono_640x192 could not be fetched" in error and error.count("\n") == 1 and published.is_there(TINY)


def child(*arguments):
    return subprocess.Popen(
        [sys.executable, str(ROOT / "weights.py"), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_two_at_once_fetch_once(site, tmp_path):
    site.slow = 0.01
    runs = [child("fetch", TINY) for _ in range(2)]
    said = [run.communicate(timeout=60) for run in runs]
    assert [run.returncode for run in runs] == [0, 0], said
    assert len(site.requests) == 1 and len(cached(tmp_path)) == 2


def test_killed_while_fetching_it_goes_on(site, tmp_path):
    site.slow = 0.5
    run = child("fetch", TINY)
    deadline = time.monotonic() + 60
    while not list((tmp_path / "cache").rglob("*.part")) and time.monotonic() < deadline:
        time.sleep(0.02)
    run.send_signal(signal.SIGKILL)
    run.communicate()
    assert not published.is_there(TINY)
    site.slow = 0
    fetched.fetch(TINY)
    assert cached(tmp_path) == [f"{TINY}/depth.pth", f"{TINY}/encoder.pth"]


def test_help_comes_without_torch():
    code = (
        "import sys, weights\ntry:\n    weights.main(['--help'])\nexcept SystemExit:\n    pass\n"
        "assert weights.main(['list']) == 0 and 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True)
