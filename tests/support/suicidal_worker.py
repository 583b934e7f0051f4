"""A worker of label that ends its process, as often as there are tokens beside its results."""

import os
import signal
from pathlib import Path

from cigpose_runtime import PoseModel, WholeFrameDetector
from cigpose_runtime.labelling.folder import open_folder
from cigpose_runtime.labelling.worker import ShardWorker


class Suicidal(ShardWorker):
    """Does so at the third picture of a shard, and removes a token each time."""

    def label(self, shard):
        for number, people in enumerate(super().label(shard)):
            tokens = sorted(Path(self.folder.name).parent.glob("token*"))
            if number == 2 and tokens:
                tokens[0].unlink()
                os.kill(os.getpid(), signal.SIGKILL)
            yield people


def suicidal(model, out, _cores):
    """What makes it."""
    return Suicidal(PoseModel(model), _whole_frame, open_folder(str(out)), {})


def _whole_frame(_path):
    return WholeFrameDetector()
