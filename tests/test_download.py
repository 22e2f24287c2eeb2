"""Downloads: whole files only, whatever the server and the line do."""

import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from checkpointing import published
from fetching import download
from system import locks
from system.errors import UserError
from tests.http_site import Site

ROOT = Path(__file__).resolve().parent.parent
DATA = os.urandom(1 << 20)
PATIENCE = {"timeout": 5, "retries": 3, "pause": 0.01}


@pytest.fixture
def site():
    with Site({"/a.zip": DATA}) as running:
        yield running


def bring(site, folder, path="/a.zip", **options):
    return download.fetch(site.url + path, str(folder / "a.zip"), **{**PATIENCE, **options})


def refused(site, folder, **options):
    with pytest.raises(UserError) as caught:
        bring(site, folder, **options)
    assert not (folder / "a.zip").exists()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_file_arrives_whole_and_leaves_nothing_beside_it(site, tmp_path):
    seen = []
    bring(site, tmp_path, progress=seen.append)
    assert (tmp_path / "a.zip").read_bytes() == DATA
    assert os.listdir(tmp_path) == ["a.zip"]
    assert sum(seen) == len(DATA)


def test_a_file_that_is_there_is_not_asked_for_again(site, tmp_path):
    (tmp_path / "a.zip").write_bytes(b"mine")
    bring(site, tmp_path)
    assert site.requests == [] and (tmp_path / "a.zip").read_bytes() == b"mine"


def test_a_cut_connection_is_resumed_where_it_broke(site, tmp_path):
    site.cut_after = [300_000, 200_000]
    seen = []
    bring(site, tmp_path, progress=seen.append)
    assert (tmp_path / "a.zip").read_bytes() == DATA
    assert site.asked("/a.zip") == [None, "bytes=300000-", "bytes=500000-"]
    assert sum(seen) == len(DATA)


def test_a_later_run_resumes_what_an_earlier_one_left(site, tmp_path):
    site.cut_after = [400_000, 0, 0, 0]
    message = refused(site, tmp_path)
    assert "goes on where it stopped" in message and download.part_length(str(tmp_path / "a.zip")) == 400_000
    site.cut_after = []
    bring(site, tmp_path)
    assert site.asked("/a.zip")[-1] == "bytes=400000-"
    assert (tmp_path / "a.zip").read_bytes() == DATA


@pytest.mark.parametrize("with_etag", [True, False])
def test_a_server_that_ignores_ranges_is_read_from_the_beginning(site, tmp_path, with_etag):
    site.ignore_ranges, site.cut_after, site.etag = True, [300_000], '"one"' if with_etag else None
    seen = []
    bring(site, tmp_path, progress=seen.append)
    assert (tmp_path / "a.zip").read_bytes() == DATA and sum(seen) == len(DATA)


def test_a_server_that_ignores_ranges_and_always_cuts_is_given_up(site, tmp_path):
    site.ignore_ranges, site.cut_after = True, [1000] * 100
    assert "keeps failing" in refused(site, tmp_path)
    assert len(site.requests) <= 6


def test_a_file_that_changed_on_the_server_is_not_glued_together(site, tmp_path):
    site.cut_after = [400_000, 0, 0, 0]
    refused(site, tmp_path)
    site.files["/a.zip"], site.etag, site.cut_after = DATA[::-1], '"two"', []
    bring(site, tmp_path)
    assert (tmp_path / "a.zip").read_bytes() == DATA[::-1]


def test_a_file_that_became_shorter_than_the_part_is_fetched_anew(site, tmp_path):
    site.cut_after = [400_000, 0, 0, 0]
    refused(site, tmp_path)
    site.files["/a.zip"], site.cut_after = DATA[:1000], []
    bring(site, tmp_path)
    assert (tmp_path / "a.zip").read_bytes() == DATA[:1000]


def test_a_part_without_its_note_is_not_trusted(site, tmp_path):
    (tmp_path / "a.zip.part").write_bytes(b"x" * 5000)
    bring(site, tmp_path)
    assert (tmp_path / "a.zip").read_bytes() == DATA


@pytest.mark.parametrize("note", ["", "[]", '{"name": "other.zip", "size": 5000}'])
def test_a_damaged_or_foreign_note_is_not_trusted(site, tmp_path, note):
    (tmp_path / "a.zip.part").write_bytes(b"x" * 5000)
    (tmp_path / "a.zip.part.json").write_text(note)
    bring(site, tmp_path)
    assert (tmp_path / "a.zip").read_bytes() == DATA


def test_a_complete_part_needs_no_further_bytes(site, tmp_path):
    (tmp_path / "a.zip.part").write_bytes(DATA)
    (tmp_path / "a.zip.part.json").write_text(json.dumps({"name": "a.zip", "size": len(DATA), "validator": None}))
    bring(site, tmp_path)
    assert (tmp_path / "a.zip").read_bytes() == DATA and site.requests == []


def test_404_ends_at_once_and_names_the_address(site, tmp_path):
    message = refused(site, tmp_path, path="/b.zip")
    assert "404" in message and "/b.zip" in message and len(site.requests) == 1
    assert os.listdir(tmp_path) == []


def test_a_passing_server_error_is_tried_again(site, tmp_path):
    site.states["/a.zip"] = [503, 500]
    bring(site, tmp_path)
    assert (tmp_path / "a.zip").read_bytes() == DATA


def test_a_lasting_server_error_is_given_up(site, tmp_path):
    site.states["/a.zip"] = [503] * 50
    assert "503" in refused(site, tmp_path) and len(site.requests) == PATIENCE["retries"]


def test_redirects_are_followed_also_when_resuming(site, tmp_path):
    site.redirects["/old.zip"] = "/a.zip"
    site.cut_after = [300_000]
    bring(site, tmp_path, path="/old.zip")
    assert (tmp_path / "a.zip").read_bytes() == DATA
    assert site.asked("/a.zip") == [None, "bytes=300000-"]


def test_a_redirect_that_goes_in_circles_ends(site, tmp_path):
    site.redirects = {"/a.zip": "/c.zip", "/c.zip": "/a.zip"}
    assert "302" in refused(site, tmp_path)


def test_a_wrong_size_is_refused_before_the_first_byte(site, tmp_path):
    message = refused(site, tmp_path, size=len(DATA) + 1)
    assert str(len(DATA)) in message and str(len(DATA) + 1) in message


def test_fewer_bytes_than_announced_are_not_a_file(site, tmp_path):
    site.lie["/a.zip"] = len(DATA) + 10
    assert "keeps failing" in refused(site, tmp_path)


def test_a_server_without_content_length_is_read_to_the_end(site, tmp_path):
    site.no_length = True
    bring(site, tmp_path)
    assert (tmp_path / "a.zip").read_bytes() == DATA


def test_nobody_at_the_address(tmp_path):
    with Site() as gone:
        url = gone.url
    with pytest.raises(UserError, match="keeps failing"):
        download.fetch(url + "/a.zip", str(tmp_path / "a.zip"), **PATIENCE)
    with pytest.raises(UserError, match="not a web address"):
        download.fetch("a.zip", str(tmp_path / "a.zip"), **PATIENCE)


def test_a_silent_server_counts_as_a_broken_connection(site, tmp_path):
    site.slow, site.ignore_ranges = 1.0, True
    assert "no answer" in refused(site, tmp_path, timeout=0.1, retries=2)


def test_a_full_disk_is_one_line_and_keeps_the_part(site, tmp_path, monkeypatch):
    receive = download._receive

    def full(reply, part, *rest):
        with open(part.path, "ab") as file:
            file.write(reply.read(1000))
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), part.path)

    monkeypatch.setattr(download, "_receive", full)
    assert "disk is full" in refused(site, tmp_path)
    monkeypatch.setattr(download, "_receive", receive)
    bring(site, tmp_path)
    assert (tmp_path / "a.zip").read_bytes() == DATA and site.asked("/a.zip")[-1] == "bytes=1000-"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_truly_full_device_is_one_line(site, tmp_path):
    os.symlink("/dev/full", tmp_path / "a.zip.part")
    assert "disk is full" in refused(site, tmp_path)


def test_an_unwritable_place_is_one_line(site, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError):
        download.fetch(site.url + "/a.zip", str(tmp_path / "file" / "a.zip"), **PATIENCE)


def test_stopping_keeps_the_part(site, tmp_path):
    site.slow, stop = 0.02, threading.Event()
    with pytest.raises(download.Stopped):
        bring(site, tmp_path, stop=stop, progress=lambda count: stop.set())
    assert 0 < download.part_length(str(tmp_path / "a.zip")) < len(DATA)


@pytest.mark.parametrize(
    "value", ["Mon, 99 Foo 99999 99:99:99 GMT", "Mon, 01 Jan 99999 00:00:00 GMT", "\u00b2", "-1", "soon", "9" * 5000]
)
def test_an_absurd_wish_to_wait_is_ignored(site, tmp_path, value):
    site.states["/a.zip"], site.headers["Retry-After"] = [503], value
    bring(site, tmp_path)
    assert (tmp_path / "a.zip").read_bytes() == DATA


@pytest.mark.parametrize("length", ["\u00b2", "9" * 5000, "-5", "many"])
def test_an_absurd_length_counts_as_none(length):
    assert download._number(length) is None


def test_a_download_of_unknown_length_does_not_fill_the_disk(site, tmp_path, monkeypatch):
    site.no_length, free = True, iter([9e9, 9e9, 1e9])
    usage = lambda folder: SimpleNamespace(free=next(free))  # noqa: E731
    monkeypatch.setattr(download.shutil, "disk_usage", usage)
    monkeypatch.setattr(download, "CHUNK", 1000)
    assert "the server does not say how long the file is" in refused(site, tmp_path)
    assert os.listdir(tmp_path) == []


def test_a_server_that_cannot_be_reached_is_told_from_one_that_refuses(tmp_path):
    with Site({}) as gone:
        closed = gone.url
        with pytest.raises(UserError) as caught:
            download.describe(closed + "/a.zip", **PATIENCE)
        assert caught.value.status == 404
    with pytest.raises(UserError) as caught:
        download.describe(closed + "/a.zip", **PATIENCE)
    assert "refused" in caught.value.unreachable
    with pytest.raises(UserError, match="has no spaces"):
        download.describe(closed + "/a b.zip", **PATIENCE)


def test_describe_tells_the_size_also_where_head_is_unknown(site):
    assert download.describe(site.url + "/a.zip", **PATIENCE).size == len(DATA)
    site.no_head = True
    assert download.describe(site.url + "/a.zip", **PATIENCE).size == len(DATA)
    with pytest.raises(UserError, match="404"):
        download.describe(site.url + "/b.zip", **PATIENCE)


def test_a_killed_download_goes_on(site, tmp_path):
    site.slow = 0.05
    child = subprocess.Popen(
        [
            sys.executable,
            "-c",
            f"from fetching import download\ndownload.fetch({site.url + '/a.zip'!r}, {str(tmp_path / 'a.zip')!r})",
        ],
        cwd=ROOT,
    )
    deadline = time.monotonic() + 60
    while download.part_length(str(tmp_path / "a.zip")) < 100_000 and time.monotonic() < deadline:
        time.sleep(0.01)
    child.send_signal(signal.SIGKILL)
    child.wait()
    have = download.part_length(str(tmp_path / "a.zip"))
    assert 0 < have < len(DATA)
    site.slow = 0
    bring(site, tmp_path)
    assert (tmp_path / "a.zip").read_bytes() == DATA and site.asked("/a.zip")[-1] == f"bytes={have}-"


def test_the_cache_folder_follows_its_variable_then_xdg_then_home(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("LITE_MONO_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert published.cache_folder() == str(tmp_path / ".cache" / "lite-mono")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert published.cache_folder() == str(tmp_path / ".cache" / "lite-mono")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert published.cache_folder() == str(tmp_path / "xdg" / "lite-mono")
    monkeypatch.setenv("LITE_MONO_CACHE", str(tmp_path / "own"))
    assert published.cache_folder() == str(tmp_path / "own")


def test_a_lock_that_somebody_holds_is_waited_for_then_given_up(tmp_path, capsys):
    def lock(timeout):
        return locks.only_one(str(tmp_path / "x.lock"), "fetching x", timeout)

    with lock(0), pytest.raises(UserError, match="still fetching x"), lock(0.1):
        pass
    assert "waiting" in capsys.readouterr().err
    with lock(0):
        pass


def test_a_lock_is_free_once_its_process_is_killed_even_with_workers_left(tmp_path):
    code = (
        "import os, sys, time\nfrom system.locks import Lock\nassert Lock(sys.argv[1]).acquire()\n"
        "if os.fork() == 0:\n    print(os.getpid(), flush=True)\n    time.sleep(60)\ntime.sleep(60)"
    )
    lock, path = locks.Lock(tmp_path / "x.lock"), str(tmp_path / "x.lock")
    holder = subprocess.Popen([sys.executable, "-c", code, path], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    worker = int(holder.stdout.readline())
    try:
        assert not lock.acquire()
        holder.kill()
        holder.wait()
        assert lock.acquire() and not locks.Lock(path).acquire()
        lock.release()
        assert locks.Lock(path).acquire()
    finally:
        os.kill(worker, signal.SIGKILL)
