"""From frames to poses: crop, run, decode, detect, track."""
