"""The reference head is the published one, and the dense head is the reference head."""

import numpy as np
import pytest
import torch

from cigpose_export.checkpoints.synthesize import draw_values
from cigpose_export.errors import ExportError
from cigpose_export.modeling.build import build_reference, load_config
from cigpose_export.modeling.cig_head import confound_score
from cigpose_export.modeling.dense import lower
from cigpose_export.modeling.dense_cig import DenseCigHead
from cigpose_export.reference.run import run_reference
from small_head import GOLDEN_NAMES, golden, make_head
from tiny_project import make_tiny_project, tiny_name

SETS = (133, 17, 14)


def filled(head, seed="0"):
    """The head with sane values, drawn as synthetic checkpoints draw them."""
    draw_values(head, seed)
    return head


def features(batch, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, 24, 3, 2, generator=generator)


def assert_same_function(head, batch):
    """The dense form errs no more, against float64, than four times what the reference does."""
    x = features(batch)
    with torch.no_grad():
        dense = DenseCigHead(head)((x,))
        single = head((x,))
        double = head.double()((x.double(),))
        head.float()
    for ours, theirs, exact in zip(dense, single, double, strict=True):
        assert ours.shape == theirs.shape
        error, rounding = (ours - exact).abs().max(), (theirs - exact).abs().max()
        assert error <= 4 * rounding + 1e-6, (error, rounding)


def test_golden_vectors_cover_all_sets_layers_and_ks():
    assert len(GOLDEN_NAMES) == len(SETS) * 2 * 2


@pytest.mark.parametrize("name", GOLDEN_NAMES)
def test_reference_head_computes_what_the_published_head_computed(name):
    vectors = golden(name)
    head = vectors.head().double()
    seen = []
    head.cim.register_forward_hook(lambda cim, inputs, outputs: seen.append((inputs, outputs)))
    with torch.no_grad():
        simcc_x, simcc_y = head((vectors.features.double(),))
    (_, logits), (_, intervened) = seen[0]
    # In float64, where the processor's own rounding has no part. The published float32 outputs are
    # off from it by 1.6e-7 to 1.8e-6 of their range over the 12 files, the same on every machine.
    # (In float32, the same code differs from them by 0 on one processor and 5.4e-6 on another.)
    for ours, theirs in ((simcc_x, vectors.simcc_x), (simcc_y, vectors.simcc_y)):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=2e-6 * np.ptp(theirs))
    scale = np.abs(vectors.intervened).max()
    np.testing.assert_allclose(intervened, vectors.intervened, rtol=0, atol=1e-6 * scale)
    np.testing.assert_allclose(confound_score(*logits), vectors.confound_score, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", GOLDEN_NAMES)
def test_dense_head_computes_what_the_published_head_computed(name):
    vectors = golden(name)
    with torch.no_grad():
        outputs = DenseCigHead(vectors.head())((vectors.features,))
    # Measured: at most 7e-6 of the range; these heads amplify, their outputs reach 760.
    for ours, theirs in zip(outputs, (vectors.simcc_x, vectors.simcc_y), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=2e-5 * np.ptp(theirs))


@pytest.mark.parametrize("num_keypoints", SETS)
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("batch", [1, 2, 5])
def test_dense_head_is_the_reference_head(num_keypoints, layers, k, batch):
    assert_same_function(filled(make_head(num_keypoints, layers=layers, k=k)), batch)


@pytest.mark.parametrize("threshold", [-1.0, 0.55, 2.0])
def test_threshold_intervention_is_lowered_too(threshold):
    head = filled(make_head(strategy="threshold", threshold=threshold))
    counts = []
    handle = head.cim.register_forward_hook(lambda *_: counts.append(int(_[2][1].sum())))
    with torch.no_grad():
        head((features(4),))
    handle.remove()
    total = 4 * 17
    expected = {-1.0: counts[0] == total, 2.0: counts[0] == 0, 0.55: 0 < counts[0] < total}
    assert expected[threshold], counts
    assert_same_function(head, 4)


def test_intervention_changes_the_output():
    head = filled(make_head())
    with torch.no_grad():
        before = DenseCigHead(head)((features(2),))[0]
        head.cim.canonical_features.weight.add_(1)
        after = DenseCigHead(head)((features(2),))[0]
    assert (before - after).abs().max() > 0.1


def test_k_beyond_the_number_of_keypoints_replaces_all():
    head = filled(make_head(14, k=99))
    assert_same_function(head, 2)


@pytest.mark.parametrize(
    ("connections", "groups"),
    [
        ([(0, 1)], [[0, 1], [1, 2]]),  # nodes without an edge, keypoints without a group
        ([(0, 1), (1, 0), (0, 1)], [[0, 1, 2]]),  # edges listed twice; a single group
        ([], [[3], [4, 5]]),  # no edges at all
    ],
)
def test_unusual_graphs_are_lowered_exactly(connections, groups):
    assert_same_function(filled(make_head(connections=connections, groups=groups)), 3)


def test_people_of_a_batch_do_not_influence_each_other():
    head = DenseCigHead(filled(make_head(133)))
    x = features(4)
    with torch.no_grad():
        together = head((x,))[0]
        alone = torch.cat([head((person[None],))[0] for person in x])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)


def test_a_head_of_other_classes_is_lowered_by_its_attributes():
    head = filled(make_head(133, layers=2))
    expected = DenseCigHead(head)((features(2),))
    for module in head.modules():
        if type(module).__module__ == "cigpose_export.modeling.cig_head":
            module.__class__ = type("Fork", (torch.nn.Module,), {})
    torch.testing.assert_close(DenseCigHead(head)((features(2),)), expected, rtol=0, atol=0)


def test_a_head_that_is_built_otherwise_is_named():
    class Estimator(torch.nn.Module):
        backbone = torch.nn.Identity()
        head = torch.nn.Linear(1, 1)

    with pytest.raises(ExportError, match="Linear is not built as"):
        lower(Estimator())


@pytest.mark.parametrize("option", ["use_rel_bias", "pos_enc"])
def test_attention_without_a_dense_form_is_refused(option):
    head = make_head(gau={option: True})
    with pytest.raises(ExportError, match="no dense form"):
        DenseCigHead(head)


def test_whole_dense_model_is_the_whole_reference_model(tmp_path):
    project = make_tiny_project(tmp_path)
    estimator = build_reference(load_config(project.config_path(tiny_name())))
    draw_values(estimator, "0")
    image = torch.randn(2, 3, 256, 192, generator=torch.Generator().manual_seed(0))
    reference = run_reference(estimator, image.numpy())
    with torch.no_grad():
        dense = lower(estimator)(image)
    exact = run_reference(estimator.double(), image.double().numpy())
    for name, ours in zip(("simcc_x", "simcc_y"), dense, strict=True):
        rounding = np.abs(getattr(reference, name) - getattr(exact, name)).max()
        assert np.abs(ours.numpy() - getattr(exact, name)).max() <= 4 * rounding + 1e-6


def test_lowering_leaves_the_reference_model_as_it_was(tmp_path):
    project = make_tiny_project(tmp_path)
    estimator = build_reference(load_config(project.config_path(tiny_name())))
    draw_values(estimator, "0")
    before = {key: value.clone() for key, value in estimator.state_dict().items()}
    lower(estimator)
    after = estimator.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)
