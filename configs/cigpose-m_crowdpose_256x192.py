_base_ = './_base_/crowdpose.py'

model = dict(
    backbone=dict(deepen_factor=0.67, widen_factor=0.75),
    head=dict(in_channels=768))
