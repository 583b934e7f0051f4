"""What a verdict looks like: as JSON, as one HTML page for a set, as Markdown for a release."""
