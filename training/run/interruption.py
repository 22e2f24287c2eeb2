"""SIGTERM, SIGHUP and SIGINT ask a run to stop after the step at hand; a second SIGINT stops it at once."""

import contextlib
import signal


class Interrupted(Exception):
    """The run stopped on a signal, its state saved; `exit_code` is 128 + the signal's number, as shells have it."""

    def __init__(self, signum, path):
        name = signal.Signals(signum).name
        super().__init__(f"stopped by {name}; the state is saved in {path}: continue with --resume")
        self.exit_code = 128 + signum


class Interruption:
    """Remembers the first signal. Use as a context; `signum` is None until one came."""

    def __init__(self):
        self.signum = None
        self._before = {}

    def __enter__(self):
        for signum in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            if signal.getsignal(signum) == signal.SIG_IGN:  # nohup, or a shell's background job
                continue
            with contextlib.suppress(ValueError):  # only the main thread may listen; elsewhere nobody sends
                self._before[signum] = signal.signal(signum, self._remember)
        return self

    def _remember(self, signum, frame):
        if self.signum is not None and signum == signal.SIGINT:
            raise KeyboardInterrupt
        self.signum = signum

    def is_asked_of_any(self, processes):
        """Return whether a signal came to any process of the run; all have to ask at the same place."""
        return processes.any(self.signum is not None)

    def stop(self, processes, states):
        """Raise `Interrupted` for the first signal that came to any process; `states`: the folder that says so."""
        raise Interrupted(next(each for each in processes.gather(self.signum) if each is not None), states)

    def __exit__(self, *exception):
        for signum, handler in self._before.items():
            signal.signal(signum, handler)
