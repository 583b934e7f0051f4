"""Fixtures of the exporter's tests."""

import pytest

from tiny_project import make_tiny_project


@pytest.fixture
def tiny_project(tmp_path):
    """A project of one tiny variant, cigpose-m_coco_256x192, without checkpoints."""
    return make_tiny_project(tmp_path)
