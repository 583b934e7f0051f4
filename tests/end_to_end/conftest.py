"""Full-size variants, exported once for all tests of this folder."""

import pytest

from cigpose_export.jobs.export import export_models
from tiny_project import ONE_OF_EACH_SET, copy_of_clone


@pytest.fixture(scope="session")
def project(tmp_path_factory):
    return copy_of_clone(tmp_path_factory.mktemp("clone"))


@pytest.fixture(scope="session")
def exported(project):
    """Variant name -> exported file, one small variant of each keypoint set."""
    out = project.artefact_folder("synthetic")
    variants = project.select(ONE_OF_EACH_SET)
    outcomes = export_models(project, variants, weights="synthetic", out=out, jobs=1)
    assert [o.error for o in outcomes] == [None] * len(outcomes)
    return {outcome.name: outcome.path for outcome in outcomes}
