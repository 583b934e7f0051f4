"""OpenPose's JSON in a folder, a file a picture, as OpenPose's --write_json names them."""

from __future__ import annotations

import json
from pathlib import PurePath

from cigpose_runtime.commands.forms import Entry
from cigpose_runtime.commands.targets import DistinctNames
from cigpose_runtime.labelling.folder import open_folder
from cigpose_runtime.writers import to_openpose


class OpenposeFolder:
    """NAME_keypoints.json, and NAME_000000000012_keypoints.json of frame 12 of a video.

    Pictures of one name in two folders are numbered.

    name: of a folder or, with fsspec, a URL. Raises FileError for one that cannot be written to.
    """

    def __init__(self, name: str) -> None:
        self._folder = open_folder(name)
        self._distinct = DistinctNames()

    def add(self, entry: Entry) -> None:
        """Writes the file of a picture, or of a frame. Raises what to_openpose raises."""
        content = json.dumps(to_openpose(entry.poses, canvas_wh=entry.canvas_wh), allow_nan=False)
        frame = "" if entry.seconds is None else f"_{entry.index:012d}"
        name = self._distinct(PurePath(entry.source).stem + frame, "_keypoints.json")
        with self._folder.writing(name) as file:
            file.write(content.encode())
