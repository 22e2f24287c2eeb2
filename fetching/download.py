"""Downloads over HTTP that can be cut anywhere and go on where they stopped.

A file arrives as `<name>.part`, with a note beside it (`<name>.part.json`) of what the server said it was; it takes its
own name only when every byte is there. Broken connections and passing server errors are tried again with growing
pauses; what no patience mends (404, a page instead of a file, a full disk) ends at once with one line.
"""

import contextlib
import email.utils
import http.client
import json
import os
import re
import shutil
import ssl
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from typing import NamedTuple

from system.errors import UserError, from_os_error
from system.files import size_text, write_json

CHUNK = 1 << 18  # bytes read at once: small enough for a lively progress line
TIMEOUT = 30.0  # seconds without a byte before a connection counts as dead
RETRIES = 6  # attempts in a row that bring not a single byte
PAUSE = 1.0  # seconds before the first retry; doubles each time
LONGEST_PAUSE = 60.0
SPARED = 2_000_000_000  # bytes of the disk that a download of unknown length leaves free
PASSING = (408, 425, 429, 500, 502, 503, 504)  # HTTP states that may be gone a moment later
AGENT = "lite-mono-fetch/1"


class Stopped(Exception):
    """The download was asked to stop; its part stays for the next run."""


class Remote(NamedTuple):
    """What a server says about a file: `size` in bytes and a `validator` (ETag or date), None where it says nothing."""

    size: int | None
    validator: str | None
    kind: str


class _Again(Exception):
    """This attempt failed in a way that may pass.

    `wait`: the server's own wish in seconds, where it has one. `connected`: whether the server answered at all.
    """

    def __init__(self, reason, wait=None, connected=True):
        super().__init__(reason)
        self.wait, self.connected = wait, connected


def describe(url, *, timeout=TIMEOUT, retries=RETRIES, pause=PAUSE, stop=None):
    """Ask the server about a file without fetching it; returns a `Remote`.

    Raises:
        UserError: the server has no such file (`status` is its HTTP status), or cannot be reached (`unreachable`
            says why).
    """

    def ask():
        try:
            with _open(url, {}, timeout, "HEAD") as reply:
                return _remote(reply)
        except UserError as error:  # some servers know only GET: look at the reply's head, leave the body
            if getattr(error, "status", None) not in (403, 405, 501):
                raise
        with _open(url, {}, timeout, "GET") as reply:
            return _remote(reply)

    return _patiently(ask, url, retries, pause, stop or threading.Event(), lambda: 0)


def fetch(url, path, *, size=None, timeout=TIMEOUT, retries=RETRIES, pause=PAUSE, stop=None, progress=None):
    """Bring `url` to the file `path`, going on from `<path>.part` where an earlier run left one.

    Args:
        size: the bytes expected, where known; a server that offers another number is refused.
        stop: a `threading.Event`; once set, the download ends with `Stopped` and keeps its part.
        progress: called with the number of bytes that have just arrived (negative when a part had to be dropped).
    Returns:
        `path`; a file that is already there is taken as it is.
    Raises:
        UserError: not there, not reachable, another size than expected, or no room; `path` does not exist then.
        Stopped: `stop` was set.
    """
    if os.path.exists(path):
        return path
    part = _Part(path, url)
    stop = stop or threading.Event()
    try:
        os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
        _patiently(
            lambda: _attempt(part, size, timeout, stop, progress or (lambda count: None)),
            url,
            retries,
            pause,
            stop,
            part.length,
        )
        part.finish()
    except OSError as error:
        raise from_os_error(error, path) from error
    return path


def part_length(path):
    """Return how many bytes of a broken download of `path` are already there."""
    return _Part(path, "").length()


def _patiently(attempt, url, retries, pause, stop, progress_mark):
    """Call `attempt` until it returns; give up after `retries` failures in a row without any progress."""
    failures, wait, furthest = 0, pause, progress_mark()
    while True:
        try:
            return attempt()
        except _Again as reason:
            failures, wait = (1, pause) if progress_mark() > furthest else (failures + 1, wait)
            furthest = max(furthest, progress_mark())
            if failures >= retries:
                fix = "check the connection and run the command again: it goes on where it stopped"
                problem = _problem(f"the download keeps failing ({reason})", url, fix)
                problem.unreachable = None if reason.connected else str(reason)
                raise problem from None
            if stop.wait(min(LONGEST_PAUSE, max(wait, reason.wait or 0))):
                raise Stopped from None
            wait *= 2


def _attempt(part, size, timeout, stop, progress):
    """One request for the bytes that are still missing, written to the part as they come."""
    have, note = part.length(), part.note()
    if have and not note:  # nobody knows what these bytes belong to
        have = part.drop(progress)
    if have and have == note.get("size"):
        return
    headers = (
        {"Range": f"bytes={have}-", "If-Range": note["validator"]}
        if have and note.get("validator")
        else ({"Range": f"bytes={have}-"} if have else {})
    )
    try:
        reply = _open(part.url, headers, timeout, "GET")
    except UserError as error:
        if getattr(error, "status", None) != 416:
            raise
        part.drop(progress)  # the file has become shorter than our part
        raise _Again("the server's file has changed") from None
    with reply:
        start, remote = _range_start(reply), _remote(reply)
        if start is not None and (start != have or note.get("size") not in (None, remote.size)):
            part.drop(progress)
            raise _Again("the server's file has changed")
        if start is None and have:  # ranges ignored, or another file than before: from the beginning
            have = part.drop(progress)
        if size is not None and remote.size is not None and remote.size != size:
            raise _problem(
                f"the server offers {remote.size} bytes instead of {size}",
                part.url,
                "the file has changed or the mirror is not complete; try again or use another --base_url",
            )
        if not have:
            part.write_note(remote)
        endless = remote.size is None and size is None
        _receive(reply, part, stop, timeout, progress, SPARED if endless else 0)
    total = remote.size if remote.size is not None else size
    if total is not None and part.length() < total:
        raise _Again("the connection was cut")
    if total is not None and part.length() > total:
        part.drop(progress)
        raise _Again("more bytes came than announced")


def _receive(reply, part, stop, timeout, progress, spared):
    with open(part.path, "ab") as file:
        while True:
            if stop.is_set():
                raise Stopped
            try:
                block = reply.read1(CHUNK)
            except (http.client.HTTPException, OSError) as error:
                raise _Again(_words(error, timeout)) from error
            if not block:
                break
            if spared and shutil.disk_usage(os.path.dirname(os.path.abspath(part.path))).free < spared:
                received = size_text(part.length())
                part.drop(progress)
                what = f"the server does not say how long the file is, and after {received} the disk is nearly full"
                raise _problem(what, part.url, "check the address, or free some space; what had come was removed")
            file.write(block)
            progress(len(block))


def _open(url, headers, timeout, method):
    """Send one request; returns the reply, or raises `_Again` or `UserError` (with `.status`)."""
    try:
        request = urllib.request.Request(
            url, method=method, headers={"User-Agent": AGENT, "Accept-Encoding": "identity", **headers}
        )
        return urllib.request.urlopen(request, timeout=timeout)
    except urllib.error.HTTPError as error:
        with error:
            if error.code in PASSING:
                raise _Again(f"the server answers {error.code}", _retry_after(error.headers)) from error
            advice = "check the address, or use another --base_url"
            raise _problem(f"the server answers {error.code} {error.reason}", url, advice, error.code) from error
    except (ValueError, http.client.InvalidURL) as error:
        fix = "give one that begins with https:// or http:// and has no spaces"
        raise _problem("not a web address", url, fix) from error
    except (http.client.HTTPException, OSError) as error:  # URLError is an OSError
        if isinstance(getattr(error, "reason", error), ssl.SSLCertVerificationError):
            raise _problem("the server's certificate is not trusted", url, "check the address and the clock") from error
        raise _Again(_words(error, timeout), connected=False) from error


def _problem(what, url, fix, status=None):
    error = UserError(what, url, fix)
    error.status = status
    return error


def _words(error, timeout):
    reason = getattr(error, "reason", error)
    if isinstance(reason, TimeoutError):
        return f"no answer for {timeout:g} seconds"
    return str(getattr(reason, "strerror", None) or reason or type(reason).__name__)


def _retry_after(headers):
    value = headers.get("Retry-After") or ""
    if _number(value) is not None:
        return float(value)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, TypeError, IndexError, OverflowError, OSError):  # no date, or one beyond all calendars
        return None


def _number(text):
    """Return a header's whole number, None for anything else."""
    return int(text) if re.fullmatch(r"[0-9]{1,18}", text or "") else None


def _range_start(reply):
    """Return the first byte's number of a partial reply (206), None for a whole file."""
    if reply.status != 206:
        return None
    match = re.match(r"bytes ([0-9]{1,18})-", reply.headers.get("Content-Range", ""))
    return int(match.group(1)) if match else -1


def _remote(reply):
    length = reply.headers.get("Content-Length")
    if reply.status == 206:
        length = (reply.headers.get("Content-Range") or "").rpartition("/")[2]
    etag = reply.headers.get("ETag") or ""
    validator = etag if etag and not etag.startswith("W/") else reply.headers.get("Last-Modified")
    return Remote(_number(length), validator, reply.headers.get_content_type())


class _Part:
    """The half-fetched file beside `path`, and the note that says which file of the server it is half of."""

    def __init__(self, path, url):
        self.target, self.url, self.path, self.note_path = path, url, path + ".part", path + ".part.json"

    def length(self):
        return os.path.getsize(self.path) if os.path.exists(self.path) else 0

    def note(self):
        try:
            with open(self.note_path, encoding="utf-8") as file:
                note = json.load(file)
        except (OSError, ValueError):
            return {}
        # Another mirror may serve the file next time: the name decides here, size and validator decide in the request.
        return note if isinstance(note, dict) and note.get("name") == _name(self.url) else {}

    def write_note(self, remote):
        write_json(self.note_path, {"name": _name(self.url), "size": remote.size, "validator": remote.validator})

    def drop(self, progress):
        progress(-self.length())
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.note_path)
        return 0

    def finish(self):
        with open(self.path, "ab") as file:
            os.fsync(file.fileno())
        os.replace(self.path, self.target)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.note_path)


def _name(url):
    return urllib.parse.urlsplit(url).path.rpartition("/")[2]
