"""Full-size variants, exported once for all tests of this folder."""

from functools import cache

import pytest

from cigpose_export.jobs.export import export_models
from tiny_project import copy_of_clone


@pytest.fixture(scope="session")
def project(tmp_path_factory):
    return copy_of_clone(tmp_path_factory.mktemp("clone"))


@pytest.fixture(scope="session")
def exported(project):
    """Variant name -> exported file, made when it is first asked for."""

    @cache
    def path_of(name):
        out = project.artefact_folder("synthetic")
        (one,) = export_models(
            project, project.select([name]), weights="synthetic", out=out, jobs=1
        )
        assert one.error is None
        return one.path

    return path_of
