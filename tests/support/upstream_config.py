"""The config of a published variant as upstream writes it, whole: training, data and all.

The layout is that of the RTMPose configs that ship with MMPose 1.3.2, from which CIGPose's
descend; the numbers are those of tests/data/variants.json.
"""

import json
import re
from pathlib import Path

from cigpose_export.openmmlab import Config

SPEC = json.loads((Path(__file__).parents[1] / "data" / "variants.json").read_text("utf-8"))
PUBLISHED = {entry["name"]: entry for entry in SPEC["variants"]}

RUNTIME = """\
default_scope = 'mmpose'

default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=50),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(type='CheckpointHook', interval=10),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    visualization=dict(type='PoseVisualizationHook', enable=False))
custom_hooks = [dict(type='SyncBuffersHook')]

env_cfg = dict(
    cudnn_benchmark=False,
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    dist_cfg=dict(backend='nccl'))
vis_backends = [dict(type='LocalVisBackend')]
visualizer = dict(type='PoseLocalVisualizer', vis_backends=vis_backends, name='visualizer')
log_processor = dict(type='LogProcessor', window_size=50, by_epoch=True, num_digits=6)
log_level = 'INFO'
load_from = None
resume = False
backend_args = dict(backend='local')
train_cfg = dict(by_epoch=True)
val_cfg = dict()
test_cfg = dict()
"""

TRAINING = """\
_base_ = ['./default_runtime.py']

max_epochs = {epochs}
stage2_num_epochs = 30
base_lr = 4e-3

train_cfg = dict(_delete_=True, by_epoch=True, max_epochs=max_epochs, val_interval=10)
randomness = dict(seed=21)

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=base_lr, weight_decay=0.05),
    clip_grad=dict(max_norm=35, norm_type=2),
    paramwise_cfg=dict(
        norm_decay_mult=0, bias_decay_mult=0, bypass_duplicate=True,
        custom_keys={{'head.cim.canonical_features': dict(lr_mult=1.0)}}))
param_scheduler = [
    dict(type='LinearLR', start_factor=1.0e-5, by_epoch=False, begin=0, end=1000),
    dict(
        type='CosineAnnealingLR', eta_min=base_lr * 0.05, begin=max_epochs // 2, end=max_epochs,
        T_max=max_epochs // 2, by_epoch=True, convert_to_iter_based=True),
]
auto_scale_lr = dict(base_batch_size=512)

codec = dict(
    type='SimCCLabel', input_size={size}, sigma={sigma}, simcc_split_ratio={split_ratio},
    normalize={normalize}, use_dark={use_dark})

num_keypoints = {num_keypoints}
keypoint_connections = {connections}
keypoint_groups = {groups}
"""

MODEL = """\
model = dict(
    type='TopdownPoseEstimator',
    data_preprocessor=dict(
        type='PoseDataPreprocessor', mean={mean}, std={std}, bgr_to_rgb={bgr_to_rgb}),
    backbone=dict(
        _scope_='mmdet',
        type='CSPNeXt',
        arch={arch!r},
        expand_ratio={expand_ratio},
        deepen_factor={deepen_factor},
        widen_factor={widen_factor},
        out_indices={out_indices},
        channel_attention={channel_attention},
        norm_cfg=dict(type='SyncBN'),
        act_cfg=dict(type={act!r}),
        init_cfg=dict(
            type='Pretrained',
            prefix='backbone.',
            checkpoint='https://download.openmmlab.com/mmpose/v1/projects/rtmposev1/'
            'cspnext-udp-aic-coco_210e-256x192.pth')),
    head=dict(
        type={head_type!r},
        in_channels={in_channels},
        out_channels=num_keypoints,
        input_size=codec['input_size'],
        in_featuremap_size={in_featuremap_size},
        in_featuremap_num={in_featuremap_num},
        simcc_split_ratio=codec['simcc_split_ratio'],
        final_layer_kernel_size={final_layer_kernel_size},
        gau_cfg={gau},
        gcn_cfg={gcn},
        cim_cfg={cim},
        keypoint_connections=keypoint_connections,
        keypoint_groups=keypoint_groups,
        loss=dict(
            type='KLDiscretLoss', use_target_weight=True, beta=10., label_softmax=True),
        loss_cf=dict(
            type='CounterfactualConsistencyLoss', use_kl=True, loss_weight=0.1),
        decoder=codec),
    test_cfg=dict(flip_test={flip_test}, ))
"""

DATA = """\
dataset_type = {dataset_type!r}
data_mode = 'topdown'
data_root = {data_root!r}
backend_args = dict(backend='local')

train_pipeline = [
    dict(type='LoadImage', backend_args=backend_args),
    dict(type='GetBBoxCenterScale'),
    dict(type='RandomFlip', direction='horizontal'),
    dict(type='RandomHalfBody'),
    dict(type='RandomBBoxTransform', scale_factor=[0.5, 1.5], rotate_factor=90),
    dict(type='TopdownAffine', input_size=codec['input_size']),
    dict(type='mmdet.YOLOXHSVRandomAug'),
    dict(
        type='Albumentation',
        transforms=[
            dict(type='Blur', p=0.1),
            dict(type='MedianBlur', p=0.1),
            dict(
                type='CoarseDropout', max_holes=1, max_height=0.4, max_width=0.4, min_holes=1,
                min_height=0.2, min_width=0.2, p=1.0),
        ]),
    dict(type='GenerateTarget', encoder=codec),
    dict(type='PackPoseInputs')
]
val_pipeline = [
    dict(type='LoadImage', backend_args=backend_args),
    dict(type='GetBBoxCenterScale'),
    dict(type='TopdownAffine', input_size=codec['input_size']),
    dict(type='PackPoseInputs')
]
train_pipeline_stage2 = [
    *train_pipeline[:4],
    dict(type='RandomBBoxTransform', shift_factor=0., scale_factor=[0.5, 1.5], rotate_factor=90),
    *train_pipeline[5:],
]
{train_dataset}
train_dataloader = dict(
    batch_size={batch_size},
    num_workers=10,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=train_dataset)
val_dataloader = dict(
    batch_size=32,
    num_workers=10,
    persistent_workers=True,
    drop_last=False,
    sampler=dict(type='DefaultSampler', shuffle=False, round_up=False),
    dataset=dict(
        type={val_type!r},
        data_root=data_root,
        data_mode=data_mode,
        ann_file='annotations/val.json',
        bbox_file='data/person_detection_results.json',
        data_prefix=dict(img='val2017/'),
        test_mode=True,
        pipeline=val_pipeline))
test_dataloader = val_dataloader

default_hooks = dict(checkpoint=dict(save_best='AP', rule='greater', max_keep_ckpts=1))
custom_hooks = [
    dict(
        type='EMAHook', ema_type='ExpMomentumEMA', momentum=0.0002, update_buffers=True,
        priority=49),
    dict(
        type='mmdet.PipelineSwitchHook', switch_epoch=max_epochs - stage2_num_epochs,
        switch_pipeline=train_pipeline_stage2)
]
val_evaluator = dict(type='CocoMetric', ann_file=data_root + 'annotations/val.json')
test_evaluator = val_evaluator
"""

ONE_DATASET = """\
train_dataset = dict(
    type=dataset_type,
    data_root=data_root,
    data_mode=data_mode,
    ann_file='annotations/train.json',
    data_prefix=dict(img='train2017/'),
    pipeline=train_pipeline)
"""

UBODY_WITH_COCO = """\
scenes = [
    'Magic_show', 'Entertainment', 'ConductMusic', 'Online_class', 'TalkShow', 'Speech',
    'Fitness', 'Interview', 'Olympic', 'TVShow', 'Singing', 'SignLanguage', 'Movie', 'LiveVlog',
    'VideoConference'
]
train_datasets = [
    dict(
        type='RepeatDataset',
        times=2,
        dataset=dict(
            type='CocoWholeBodyDataset',
            data_root='data/coco/',
            data_mode=data_mode,
            ann_file='annotations/coco_wholebody_train_v1.0.json',
            data_prefix=dict(img='train2017/'),
            pipeline=[]))
]
for scene in scenes:
    train_datasets.append(
        dict(
            type=dataset_type,
            data_root=data_root,
            data_mode=data_mode,
            ann_file=f'annotations/{scene}/train_annotations.json',
            data_prefix=dict(img='images/'),
            pipeline=[],
            sample_interval=10))
train_dataset = dict(
    type='CombinedDataset',
    metainfo=dict(from_file='configs/_base_/datasets/coco_wholebody.py'),
    datasets=train_datasets,
    pipeline=train_pipeline,
    test_mode=False)
"""


def write_upstream_config(folder: Path, name: str) -> Path:
    """Writes the config of a variant, and the one that it is based on, under upstream's names."""
    entry = PUBLISHED[name]
    head, backbone, preprocessor = entry["head"], entry["backbone"], entry["data_preprocessor"]
    path = folder / entry["upstream_config"].rpartition("/")[2]
    batch_size, epochs = re.search(r"xb(\d+)-(\d+)e_", path.name).groups()
    keypoints = str(entry["num_keypoints"])
    ubody = entry["dataset"] == "coco-ubody"
    parts = (
        TRAINING.format(
            epochs=epochs,
            size=tuple(entry["input_size_wh"]),
            sigma=tuple(entry["simcc_sigma"]),
            split_ratio=entry["simcc_split_ratio"],
            normalize=entry["simcc_normalize"],
            use_dark=entry["simcc_use_dark"],
            num_keypoints=keypoints,
            connections=[tuple(edge) for edge in SPEC["skeleton_edges"][keypoints]],
            groups=SPEC["keypoint_groups"][keypoints],
        ),
        MODEL.format(
            **preprocessor,
            **{k: v for k, v in backbone.items() if k not in ("type", "norm", "out_indices")},
            out_indices=tuple(backbone["out_indices"]),
            # The one published config that names the head so.
            head_type="CausalGraphHead" if name == "cigpose-l_coco-ubody_256x192" else "CIGHead",
            **{k: v for k, v in head.items() if k != "in_featuremap_size_wh"},
            in_featuremap_size=tuple(head["in_featuremap_size_wh"]),
            flip_test=entry["flip_test"],
        ),
        DATA.format(
            dataset_type=entry["dataset_type"],
            data_root="data/UBody/" if ubody else "data/coco/",
            train_dataset=UBODY_WITH_COCO if ubody else ONE_DATASET,
            # UBody's configs validate on COCO-WholeBody.
            val_type="CocoWholeBodyDataset" if ubody else entry["dataset_type"],
            batch_size=batch_size,
        ),
    )
    (folder / "default_runtime.py").write_text(RUNTIME)
    path.write_text("\n".join(parts))
    return path


def upstream_config_text(folder: Path, name: str) -> str:
    """What MMEngine's runner puts into `meta['cfg']` of a checkpoint that it trains."""
    return Config.fromfile(write_upstream_config(folder, name)).pretty_text
