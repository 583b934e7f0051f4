"""What can keep a file from being judged; each error is one line with a next step."""

from __future__ import annotations

from cigpose_runtime.errors import CigposeError


class RunError(CigposeError):
    """A model that loads and then does not run, or returns something of another form."""
