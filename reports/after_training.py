"""The page that train.py --report writes when the run has ended."""

import logging
import os

from reports import page
from reports.run_page import write_report

log = logging.getLogger(__name__)
NAME = "report.html"  # in the run's folder, where the option gives no name


def check(opt):
    """Raise `UserError` where the page could not be written at the end."""
    page.check_output(_path(opt, os.path.join(opt.log_dir, opt.model_name)))


def write(opt, run_folder):
    """Write the page about a run that has ended."""
    path = _path(opt, run_folder)
    write_report([run_folder], path)
    log.info("report written to %s", path)


def _path(opt, run_folder):
    return os.path.join(run_folder, NAME) if opt.report is True else opt.report
