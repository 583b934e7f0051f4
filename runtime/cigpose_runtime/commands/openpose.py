"""OpenPose's JSON in a folder, a file a picture, as OpenPose's --write_json names them."""

from __future__ import annotations

import json
from pathlib import PurePath

from cigpose_runtime.labelling.folder import open_folder
from cigpose_runtime.poses import Poses
from cigpose_runtime.writers import to_openpose


class OpenposeFolder:
    """NAME_keypoints.json, and NAME_000000000012_keypoints.json of frame 12 of a video.

    name: of a folder or, with fsspec, a URL. Raises FileError for one that cannot be written to.
    """

    def __init__(self, name: str) -> None:
        self._folder = open_folder(name)
        self._taken: set[str] = set()

    def add(
        self, poses: Poses, source: str, frame: int | None, canvas_wh: tuple[int, int] | None
    ) -> None:
        """Writes the file of a picture, or of a frame. Raises what to_openpose raises."""
        content = json.dumps(to_openpose(poses, canvas_wh=canvas_wh), allow_nan=False)
        with self._folder.writing(self._name(source, frame)) as file:
            file.write(content.encode())

    def _name(self, source: str, frame: int | None) -> str:
        """Pictures of one name in two folders are numbered."""
        stem = PurePath(source).stem + ("" if frame is None else f"_{frame:012d}")
        name, number = stem, 1
        while name in self._taken:
            number += 1
            name = f"{stem}-{number}"
        self._taken.add(name)
        return f"{name}_keypoints.json"
