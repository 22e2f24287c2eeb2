"""The exported web page in a real headless Chromium: it loads, predicts, equals onnxruntime, and fits a phone."""

import functools
import http.server
import os
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import export_onnx
from exporting.web import RUNTIME
from inference.onnx_runner import OnnxRunner
from tests.conftest import ROOT
from tests.seeded_folders import HEIGHT, WIDTH, picture, write_weights

pytest.importorskip("onnxruntime", reason="requirements-export.txt is not installed")
SIZE = HEIGHT, WIDTH


@pytest.fixture(scope="module")
def package():
    """Folder of the npm package onnxruntime-web."""
    folder = os.environ.get("ONNXRUNTIME_WEB") or ROOT / "node_modules" / "onnxruntime-web"
    if not Path(folder).is_dir():
        pytest.skip("no onnxruntime-web: npm install onnxruntime-web, or set ONNXRUNTIME_WEB to its folder")
    return Path(folder)


@pytest.fixture(scope="module")
def page(package, tmp_path_factory):
    """Folder of an exported page."""
    top = tmp_path_factory.mktemp("web")
    weights = write_weights(top / "weights")
    words = ["--load_weights_folder", weights, "--web", top / "page", "--onnxruntime_web", package]
    assert export_onnx.main([str(word) for word in words]) == 0
    return top / "page"


@pytest.fixture(scope="module")
def address(page):
    """Address of the page on a server that, like any plain one, knows nothing of it."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        extensions_map = {**http.server.SimpleHTTPRequestHandler.extensions_map, ".mjs": "text/javascript"}

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(page)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


@pytest.fixture
def tab(browser, address):
    """A loaded page at a phone's width; whatever it complains of fails the test."""
    context = browser.new_context(viewport={"width": 390, "height": 844}, accept_downloads=True)
    opened = context.new_page()
    complaints, requests = [], []
    opened.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.on("request", lambda request: requests.append(request.url))
    opened.goto(address)
    says(opened, "Ready.")
    yield opened
    context.close()
    assert not complaints
    assert not [url for url in requests if not url.startswith((address, "blob:", "data:"))]


def says(tab, text):
    """Wait until the page's status line contains a text."""
    from playwright.sync_api import expect

    expect(tab.locator("#status")).to_contain_text(text, timeout=60_000)


def fits(tab):
    return tab.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")


def test_the_page_predicts_what_onnxruntime_does(tab, page, tmp_path):
    Image.fromarray(picture(HEIGHT, WIDTH)).save(tmp_path / "street.png")
    assert "lite-mono-tiny, 96×64, float32" in tab.text_content("#model") and fits(tab)
    tab.set_input_files("#file", tmp_path / "street.png")
    says(tab, "street.png: ")
    with tab.expect_download() as download:
        tab.click("#save")
    download.value.save_as(tmp_path / "disparity.npy")
    found = np.load(tmp_path / "disparity.npy", allow_pickle=False)
    wanted = OnnxRunner(page / "model.onnx").predict(Image.open(tmp_path / "street.png"))
    np.testing.assert_allclose(found, wanted, rtol=1e-3)
    assert fits(tab)
    shown = tab.evaluate("[...document.querySelector('#disparity').getContext('2d').getImageData(0, 0, 96, 64).data]")
    colours = np.array(shown).reshape(HEIGHT, WIDTH, 4)[..., :3]
    bright, dark = np.unravel_index(wanted[0, 0].argmax(), SIZE), np.unravel_index(wanted[0, 0].argmin(), SIZE)
    assert colours[bright].sum() > colours[dark].sum() + 300


def test_the_camera_runs_until_it_is_stopped(tab):
    tab.click("#camera")
    says(tab, "frames a second")
    assert fits(tab)
    tab.click("#stop")
    assert tab.locator("#stop").is_hidden()


def test_a_file_that_is_no_image_is_told(tab, tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    tab.set_input_files("#file", tmp_path / "notes.txt")
    says(tab, "notes.txt cannot be shown")


def test_a_missing_engine_is_one_line(tmp_path, capsys):
    words = ["--load_weights_folder", "w", "--web", tmp_path / "page", "--onnxruntime_web", tmp_path / "none"]
    assert export_onnx.main([str(word) for word in words]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "npm install onnxruntime-web" in error and "none" in error


def test_a_folder_that_holds_something_else_is_left_alone(tmp_path, capsys):
    (tmp_path / "dist").mkdir()
    for name in RUNTIME:
        (tmp_path / "dist" / name).touch()
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "diary.txt").write_text("mine")
    words = ["--load_weights_folder", "w", "--web", tmp_path / "home", "--onnxruntime_web", tmp_path]
    assert export_onnx.main([str(word) for word in words]) == 2
    assert "holds something else" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "home").iterdir()] == ["diary.txt"]
