"""A decoder with bugs: pictures called crash.png end its process, those called hang.png keep it."""

import os
import signal

from cigpose_runtime.labelling import decoding


def decoder():
    return decode


def decode(request):
    if "crash.png" in getattr(request, "name", ""):
        os.kill(os.getpid(), signal.SIGSEGV)
    if "hang.png" in getattr(request, "name", ""):
        while True:
            signal.pause()
    yield from decoding.decode(request)
