"""What makes a config another one: its own text and that of all files that it is based on."""

import pytest

from cigpose_export.jobs.staleness import config_hash


@pytest.fixture
def config(tmp_path):
    texts = {
        "config": "_base_ = ['./base.py', 'mmpose::a/b.py']",
        "base": "_base_ = './deep/root.py'",
        "deep/root": "_base_ = '../base.py'\nmodel = 1",  # a loop is the loader's to refuse
        "other": "",
    }
    (tmp_path / "deep").mkdir()
    for stem, text in texts.items():
        (tmp_path / f"{stem}.py").write_text(text)
    return tmp_path / "config.py"


@pytest.mark.parametrize("changed", ["config", "base", "deep/root"])
def test_a_change_anywhere_in_the_chain_counts(config, changed):
    before = config_hash(config)
    with (config.parent / f"{changed}.py").open("a") as file:
        file.write("\n# changed\n")
    assert config_hash(config) != before


def test_a_file_that_the_config_is_not_based_on_does_not_count(config):
    before = config_hash(config)
    (config.parent / "other.py").write_text("model = 2")
    assert config_hash(config) == before


@pytest.mark.parametrize("text", ["_base_ = (", "_base_ = 3", "_base_ = some()", "\0", "\xff"])
def test_what_cannot_be_read_is_left_to_the_loader(tmp_path, text):
    path = tmp_path / "config.py"
    path.write_bytes(text.encode("latin-1"))
    assert len(config_hash(path)) == 64
