"""What the place that keeps a file says of its sha256."""

from __future__ import annotations

import posixpath
import re
from typing import Any
from urllib.parse import urlsplit

import gdown
import requests

from cigpose_export.checkpoints.load import hash_in_name

TIMEOUT_S = 60
"""Seconds without a byte from the server after which it is given up."""

LINKED_ETAG = "X-Linked-Etag"
"""Hugging Face's header for files in LFS, on the response that leads to the file: the sha256."""


def announced_sha256(source: str) -> str | None:
    """The hex digits that the sha256 of a source's file begins with, None where nobody says them.

    source: as in the manifest. The digits are eight in the name that OpenMMLab's publishing scripts
    give a file, all 64 in Hugging Face's header.
    """
    kind, _, identifier = source.partition(":")
    try:
        return _on_google_drive(identifier) if kind == "gdrive" else _at_url(source)
    except (gdown.DownloadError, requests.RequestException, OSError):
        return None  # the second download, which follows, says what is wrong


def _on_google_drive(identifier: str) -> str | None:
    found: Any = gdown.download(
        id=identifier, skip_download=True, quiet=True, use_cookies=False, timeout=TIMEOUT_S
    )
    return hash_in_name(found.path)


def _at_url(url: str) -> str | None:
    with requests.get(url, stream=True, timeout=TIMEOUT_S) as response:
        for one in (*response.history, response):
            digest = one.headers.get(LINKED_ETAG, "").strip('"')
            if re.fullmatch("[0-9a-f]{64}", digest):
                return digest
    return hash_in_name(posixpath.basename(urlsplit(url).path))
