# The demonstration model: tiny, trained here on drawn people (export/cigpose_export/drawn).
_base_ = './_base_/coco.py'

codec = dict(input_size=(96, 128), sigma=(3.46, 4.0))
model = dict(
    backbone=dict(deepen_factor=0.167, widen_factor=0.171875),
    head=dict(
        in_channels=176, input_size=codec['input_size'], in_featuremap_size=(3, 4), decoder=codec,
        gau_cfg=dict(hidden_dims=96, s=48),
        gcn_cfg=dict(input_dim=96, hidden_dim=96)))
