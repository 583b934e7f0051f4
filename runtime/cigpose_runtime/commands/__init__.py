"""The subcommands that need the [cli] extra: pictures, videos, cameras."""
