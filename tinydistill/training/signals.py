"""Ctrl-C and SIGTERM, kindly: the first asks the run to save and stop, the second ends it at once."""

import contextlib
import os
import signal
import threading


class StopRequest:
    """Within this block the first SIGINT or SIGTERM only fills in `requested`, the number of the signal.

        with StopRequest() as stop:
            for step in range(steps):
                ...
                if stop.requested:
                    save(step)
                    raise Stopped(f"stopped at step {step}", stop.requested)

    The second is the operating system's: the process ends even inside a long matrix product, with what was saved.
    Signals reach the main thread only, so elsewhere this does nothing; nor does it to a signal that is ignored (nohup).
    """

    def __init__(self):
        self.requested = None
        self._before = {}

    def __enter__(self):
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                if signal.getsignal(number) not in (signal.SIG_IGN, None):
                    self._before[number] = signal.signal(number, self._first)
        return self

    def __exit__(self, *exception):
        while self._before:
            signal.signal(*self._before.popitem())

    def _first(self, number, frame):
        self.requested = number
        for caught in self._before:
            signal.signal(caught, signal.SIG_DFL)
        with contextlib.suppress(OSError):          # and not print, which may not be called while it is being called
            os.write(2, b"\nstopping after this step; once more to stop at once\n")
