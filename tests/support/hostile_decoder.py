"""A decoder with bugs: pictures called crash.png end its process, those called hang.png keep it.

At killed.png it is the system that ends the process, while there is a file killed.token beside it.
"""

import os
import signal
from pathlib import Path

from cigpose_runtime.labelling import decoding


def decoder():
    return decode


def decode(request):
    if "crash.png" in getattr(request, "name", ""):
        os.kill(os.getpid(), signal.SIGSEGV)
    if "hang.png" in getattr(request, "name", ""):
        while True:
            signal.pause()
    if "killed.png" in getattr(request, "name", ""):
        token = Path(request.name).with_suffix(".token")
        if token.exists():
            token.unlink()
            os.kill(os.getpid(), signal.SIGKILL)
    yield from decoding.decode(request)
