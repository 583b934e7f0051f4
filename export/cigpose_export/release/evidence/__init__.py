"""What a release says of itself in forms that other people's tools read."""
