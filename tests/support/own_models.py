"""Configs of models that are no published variants, tiny or of full size."""

from pathlib import Path

from cigpose_export.openmmlab import Config
from cigpose_export.own_model import config_path
from cigpose_export.project import Project
from tiny_project import CLONE

HALPE = "mmpose:rtmpose-m_8xb512-700e_body8-halpe26-256x192"
WHOLE_BODY = "mmpose:rtmpose-m_8xb64-270e_coco-wholebody-256x192"
RTMW = "mmpose:rtmw-m_8xb1024-270e_cocktail14-256x192"

TINY = """\
codec = {codec}
model = {model}
test_dataloader = dict(dataset=dict(type='CombinedDataset', metainfo={metainfo}))
"""

HAND = """\
# Both halves of a hand-like figure: 21 keypoints, a root and ten pairs.
_base_ = {base!r}
names = ['root', *[f'{{side}}_{{i}}' for i in range(10) for side in ('left', 'right')]]
other = dict(left='right', right='left')
dataset_info = dict(
    dataset_name='workshop',
    keypoint_info={{
        i: dict(name=name, id=i, swap='_'.join([other[name.split('_')[0]], name.split('_')[1]])
                if i else '')
        for i, name in enumerate(names)}},
    skeleton_info={{i: dict(link=('root', name), id=i) for i, name in enumerate(names[1:])}},
    joint_weights=[1.0] * 21,
    sigmas=[0.03 + 0.001 * i for i in range(21)])
dataset_type = 'CocoDataset'
model = dict(head=dict(
    out_channels=21,
    keypoint_connections=[(0, i) for i in range(1, 21)],
    keypoint_groups=[[0, 1, 3, 5], [0, 2, 4, 6], list(range(7, 14)), list(range(14, 21))]))
"""
TINY_CIG = """\
model['backbone'] = dict(deepen_factor=0.17, widen_factor=0.0625)
model['head'].update(
    in_channels=64, gau_cfg=dict(hidden_dims=32, s=16), gcn_cfg=dict(input_dim=32, hidden_dim=32))
"""


def write_tiny(folder: Path, base: str) -> Path:
    """What inference takes of a config that MMPose ships, backbone and hidden layers tiny."""
    config = Config.fromfile(config_path(base))
    dataset = config.train_dataloader.dataset
    width = 0.0625
    if base == RTMW:  # in fewer channels, its neck lets rounding grow
        width = 0.25
        config.model.neck.update(in_channels=[64, 128, 256], num_csp_blocks=0)
    config.model.backbone.update(deepen_factor=0.17, widen_factor=width)
    config.model.head.update(in_channels=int(1024 * width))
    config.model.head.gau_cfg.update(hidden_dims=32, s=16)
    path = folder / "tiny.py"
    path.write_text(
        TINY.format(
            codec=config.codec.to_dict(),
            model=config.model.to_dict(),
            metainfo=dataset.metainfo.to_dict(),
        )
    )
    return path


def write_hand(folder: Path, *, tiny: bool) -> Path:
    """The config of a CIGPose-m with 21 keypoints of its own."""
    base = CLONE / "configs" / "cigpose-m_coco_256x192.py"
    path = folder / "hand.py"
    path.write_text(HAND.format(base=str(base)) + (TINY_CIG if tiny else ""))
    return path


def empty_project(root: Path) -> Project:
    """A project without variants."""
    project = Project(root)
    project.manifest_path.parent.mkdir()
    project.manifest_path.write_text("")
    return project
