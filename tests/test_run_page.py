"""report_run.py and train.py --report: what the page says about runs, in a browser, and mistakes as processes."""

import json
import re
import subprocess
import sys

import pytest

import report_run
import train
from reports.run_files import read_run
from reports.run_page import charts_of, differing_options, epoch_of, strip, summary, summary_table
from tests.conftest import ROOT
from tests.web_pages import broken_images, fits, opened
from training.run.event_file import EventFile

COMMAND = ["train.py", "--model_name", "<script>alert(1)</script>"]


def write_run(path, steps=30, rate=1e-4, batch=5):
    """Write a run's files as a training run leaves them."""
    import numpy as np

    train_file, val_file = EventFile(str(path / "train")), EventFile(str(path / "val"))
    for step in range(1, steps + 1):
        train_file.scalars({"loss": 1 / step, "learning_rate/adam": rate, "images_per_second": 5, "waiting": 0.1}, step)
    train_file.text("alarm/motion", "motion <b>vanishes</b>", 7)
    train_file.scalars({"alarm/motion": 1}, 7)
    for step in range(10, steps + 1, 10):
        val_file.scalars({"loss": 2 / step, "abs_rel": 1 / step, "a1": 0.5}, step)
        for tag in ("target/0", "disp_0/0"):
            val_file.image(tag, np.full((8, 16, 3), step, np.uint8), step)
    train_file.close(), val_file.close()
    options = {"model": "lite-mono", "width": 64, "height": 32, "batch_size": batch, "grad_accum": 1, "lr": [rate]}
    info = {
        "command": COMMAND,
        "options": options,
        "splits": {"train": {"name": "mine", "lines": 52}},
        "device": "cpu",
        "processes": 1,
        "python": "3.11",
        "versions": {"torch": "2.14", "timm": None},
        "revision": "abc",
    }
    (path / "models" / "weights_best").mkdir(parents=True)
    (path / "models" / "run.json").write_text(json.dumps(info))
    best = {"epoch": 2, "step": 30, "chosen_by": "abs_rel", "abs_rel": 1 / 30}
    (path / "models" / "weights_best" / "metrics.json").write_text(json.dumps(best))
    return path


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    top = tmp_path_factory.mktemp("runs")
    return write_run(top / "first"), write_run(top / "second", steps=20, rate=5e-4)


def test_what_a_run_left_is_read(runs):
    run = read_run(runs[0])
    assert run.curve("train/loss")[1][:2] == pytest.approx((1, 0.5)) and run.curve("val/abs_rel")[0] == (10, 20, 30)
    assert run.alarms == [(7, "motion", "motion <b>vanishes</b>")]
    assert epoch_of(run, 30) == 3  # 52 items in batches of 5: ten steps
    assert {label: value for label, value, _ in summary(run)}["best abs_rel"] == "0.033"
    [(label, pictures)] = strip(run)
    assert label == "validation item 1"
    assert [caption for caption, _ in pictures] == [
        "image", "after 1 epoch, step 10", "after 2 epochs, step 20", "after 3 epochs, step 30"]  # fmt: skip


def test_runs_share_their_charts_and_tell_their_options_apart(runs):
    both = [read_run(path) for path in runs]
    names = {chart.name: chart for chart in charts_of(both)}
    assert {"loss", "abs_rel", "learning_rates", "speed", "waiting"} <= set(names) and "rmse" not in names
    assert [each.name for each in names["learning_rates"].series] == ["first depth", "second depth"]
    assert differing_options(both) == [("lr", ["[0.0001]", "[0.0005]"])]
    options = both[1].facts["options"] | {"new": None, "newer": False, "stride": 2}
    newer = both[1]._replace(facts=both[1].facts | {"options": options})
    assert differing_options([both[0], newer])[1:] == [("stride", ["–", "2"])]
    unknown = both[0]._replace(facts={}, best={})
    assert differing_options([both[0], unknown]) == []
    labels, [_, (_, cells)] = summary_table([both[0], unknown])
    assert labels[0] == "best abs_rel" and cells[0] == ("–", "") and cells[1][0] == "0.0333"


def test_a_resumed_run_shows_the_steps_that_count(tmp_path):
    path = write_run(tmp_path / "run", steps=20)
    [earlier] = (path / "train").iterdir()
    earlier.rename(path / "train" / "events.out.tfevents.1")
    again = EventFile(str(path / "train"), first_step=11)
    again.scalars({"loss": 9.0}, 11)
    again.close()
    steps, values = read_run(path).curve("train/loss")
    assert steps == tuple(range(1, 12)) and values[-1] == 9


@pytest.mark.parametrize("count", [1, 2])
def test_the_page_in_a_browser(runs, tmp_path, browser, count):
    words = [str(path) for path in runs[:count]]
    assert report_run.main([*words, "--out", str(tmp_path / "page.html"), "--plots", str(tmp_path / "plots")]) == 0
    text = (tmp_path / "page.html").read_text()
    assert not re.search(r"""(src|href)=["'](?!data:|#)""", text)
    assert "<script>alert" not in text and "motion &lt;b&gt;vanishes" in text
    assert (tmp_path / "plots" / "loss.pdf").exists() and (tmp_path / "plots" / "abs_rel.png").exists()
    with opened(browser, tmp_path / "page.html") as tab:
        assert fits(tab) and broken_images(tab) == 0 and tab.locator("svg").count() >= 6
        assert tab.locator(".alarm").count() == count and tab.locator(".strip img").count() == 4 * count - (count - 1)
        tab.locator("summary").first.focus()
        tab.keyboard.press("Enter")
        assert tab.locator("details[open]").count() == 1


def test_training_writes_its_page(short_run, tmp_path):
    assert train.main(short_run("--max_steps", 2, "--log_frequency", 1, "--report")) == 0
    text = (tmp_path / "runs" / "run" / "report.html").read_text()
    assert "Training loss" in text and "Waiting for data" in text and "max_steps" in text


def test_a_report_that_could_not_be_written_is_told_before_training(short_run, tmp_path, capsys):
    assert train.main(short_run("--report", tmp_path / "weights.pth")) == 2
    assert "another kind" in capsys.readouterr().err and not (tmp_path / "runs").exists()


def test_mistakes_are_one_line(tmp_path, runs, monkeypatch, capsys):
    empty = tmp_path / "empty"
    (empty / "train").mkdir(parents=True)
    nothing = tmp_path / "nothing"
    (nothing / "train").mkdir(parents=True)
    (nothing / "train" / "events.out.tfevents.1").write_bytes(b"no events")
    broken = write_run(tmp_path / "broken", steps=10)
    (broken / "models" / "run.json").write_text("{")
    cases = [([tmp_path / "none"], "no such run"), ([empty], "without TensorBoard files"), ([nothing], "no numbers"),
             ([broken], "not a JSON file"), ([runs[0], "--out", tmp_path], "a folder stands"),
             ([runs[0]] * 9, "too many runs")]  # fmt: skip
    monkeypatch.chdir(tmp_path)  # where a page would be written
    for words, what in cases:
        assert report_run.main([str(word) for word in words]) == 2
        said = capsys.readouterr().err
        assert said.count("\n") == 1 and what in said and not list(tmp_path.glob("*.html")), said
    command = [sys.executable, ROOT / "report_run.py", tmp_path / "none"]
    ended = subprocess.run(list(map(str, command)), capture_output=True, text=True, cwd=tmp_path, timeout=120)
    assert ended.returncode == 2 and ended.stderr.count("\n") == 1 and "no such run" in ended.stderr, ended.stderr
