"""Pictures, videos and cameras, in and out; needs the [cli] extra."""
