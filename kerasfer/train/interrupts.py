"""Detects interrupts (Ctrl-C) that were swallowed during a training."""

import contextlib
import signal
import threading

import keras


class NoticeInterrupts(keras.callbacks.Callback):
    """Ends the training after the current step if an interrupt was swallowed.

    Python raises `KeyboardInterrupt` in whatever code runs at that moment. In a finalizer or in a
    callback from C++, such as the one that JAX registers with the garbage collector, the exception
    is printed and ignored.
    """

    def __init__(self):
        super().__init__()
        self.interrupted = False

    @contextlib.contextmanager
    def active(self):
        """Watches for interrupts within the block. Only the main thread receives them."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = signal.getsignal(signal.SIGINT)

        def notice(number, frame):
            self.interrupted = True
            if callable(before):
                before(number, frame)

        if before != signal.SIG_IGN:
            signal.signal(signal.SIGINT, notice)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    def on_train_batch_end(self, batch, logs=None):
        if self.interrupted:
            raise KeyboardInterrupt

    def on_test_batch_end(self, batch, logs=None):
        if self.interrupted:
            raise KeyboardInterrupt
