"""Several downloads at once, handed on as they are complete; the failure of one does not stop the others."""

import concurrent.futures
import contextlib
import errno
import threading
from typing import NamedTuple

from fetching import download
from system.errors import UserError
from system.progress import byte_progress


class Wanted(NamedTuple):
    """A file to be brought: address, place, and size in bytes or None."""

    url: str
    path: str
    size: int | None


class Problems:
    """What went wrong with single archives or drives while the others went on."""

    def __init__(self):
        self.errors, self.hopeless = [], None

    def stop(self, error):
        """Note a problem that leaves no sense in later steps; what is here already may still be worked on."""
        self.hopeless = error

    def raise_if_hopeless(self):
        """Raise what `stop` was given."""
        if self.hopeless:
            raise self.hopeless

    @contextlib.contextmanager
    def collected(self):
        """Keep a user's problem for later; a full disk is everybody's problem and is raised at once."""
        try:
            yield
        except UserError as error:
            if getattr(error.__cause__, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
                raise
            self.errors.append(error)

    def raise_if_any(self):
        """Raise one `UserError` for all of them."""
        if len(self.errors) == 1:
            raise self.errors[0]
        if self.errors:
            first = self.errors[0]
            raise UserError(
                f"{len(self.errors)} problems, the first: {first.what}",
                first.which,
                f"{first.fix}; then run the command again: it does only what is left",
            )


def sizes_of(urls, problems, **patience):
    """Ask for the sizes of {key: address}; returns {key: bytes, 0 where the server is silent}, failures left out."""
    sizes = {}
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        futures = {name: pool.submit(download.describe, url, **patience) for name, url in urls.items()}
        for name, future in futures.items():
            with problems.collected():
                sizes[name] = future.result().size or 0
    return sizes


def arriving(files, parallel, problems, **patience):
    """Yield each `Wanted` once its file is complete; failures go to `problems`.

    The next download starts when the consumer has taken a complete file, so never more than `parallel` files are here
    and not yet taken. Closing the generator stops what is on its way; the parts stay.
    """
    ahead, running, stop = list(files), {}, threading.Event()
    done = sum(download.part_length(file.path) for file in ahead)
    total = sum(file.size or 0 for file in ahead)
    if not ahead:
        return
    with byte_progress("download", total or None, done) as progress:
        pool = concurrent.futures.ThreadPoolExecutor(parallel)
        try:
            while ahead or running:
                while ahead and len(running) < parallel:
                    file = ahead.pop(0)
                    options = {"size": file.size, "stop": stop, "progress": progress.advance, **patience}
                    running[pool.submit(download.fetch, file.url, file.path, **options)] = file
                finished, _ = concurrent.futures.wait(running, return_when=concurrent.futures.FIRST_COMPLETED)
                for future in finished:
                    file = running.pop(future)
                    with problems.collected():
                        future.result()
                        yield file
        finally:
            stop.set()
            pool.shutdown(wait=True, cancel_futures=True)
