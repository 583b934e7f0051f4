"""Who is who from frame to frame: motion, likeness, and the tracker that joins by them."""
