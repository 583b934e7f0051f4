"""One graph from frame to keypoints: crop, model and decode, bit for bit as the runtime."""
