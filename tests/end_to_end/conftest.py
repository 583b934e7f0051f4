"""Full-size variants, exported once for all tests of this folder."""

import pytest

from cigpose_export.jobs.export import Batch
from tiny_project import ONE_OF_EACH_SET, copy_of_clone


@pytest.fixture(scope="session")
def project(tmp_path_factory):
    return copy_of_clone(tmp_path_factory.mktemp("clone"))


@pytest.fixture(scope="session")
def exported(project):
    """Variant name -> exported file, one small variant of each keypoint set."""
    out = project.artefact_folder("synthetic")
    batch = Batch(project, weights="synthetic", out=out, jobs=1)
    outcomes = batch.run(project.select(ONE_OF_EACH_SET))
    assert [o.error for o in outcomes] == [None] * len(outcomes)
    return {outcome.name: outcome.path for outcome in outcomes}
