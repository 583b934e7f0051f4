"""What runs in other processes: importable there, by name."""


class KeypointsOfFrame:
    """As a DataLoader's collate_fn: the keypoints in the one frame that it is given."""

    def __init__(self, model, boxes):
        self.model, self.boxes = model, boxes

    def __call__(self, frames):
        (frame,) = frames
        return self.model(frame, self.boxes).keypoints


def send_estimate(pipe, model, frame, boxes):
    pipe.send(model(frame, boxes).keypoints)
