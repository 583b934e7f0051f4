"""The model: its reference form, registered with MMPose, and the dense form that is exported."""
