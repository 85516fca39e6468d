"""How a process learns that it is to stop."""

import _thread
import signal
import threading


def stop_signal(*numbers: signal.Signals) -> threading.Event:
    """An event that these signals set; SIGTERM and SIGINT where none is named.

    Python runs a handler in the main thread, between any two of its steps. Were the event set there, and the main
    thread just about to wait for it, the handler would wait for ever for the lock that the interrupted wait() holds.
    So another thread sets it; `threading.Thread` would not do, it takes locks of its own to start.
    """
    stop = threading.Event()
    for number in numbers or (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: _thread.start_new_thread(stop.set, ()))
    return stop
