# The demonstration model: tiny, trained here on drawn people (export/cigpose_export/drawn).
_base_ = ['./_base_/cigpose.py', './_base_/coco.py']

codec = dict(
    type='SimCCLabel', input_size=(96, 128), sigma=(3.46, 4.0),
    simcc_split_ratio=2.0, normalize=False, use_dark=False)
model = dict(
    backbone=dict(deepen_factor=0.167, widen_factor=0.171875),
    head=dict(
        in_channels=176, out_channels=_base_.num_keypoints, input_size=codec['input_size'],
        in_featuremap_size=(3, 4), decoder=codec,
        gau_cfg=dict(hidden_dims=96, s=48),
        gcn_cfg=dict(num_layers=_base_.gcn_num_layers, input_dim=96, hidden_dim=96),
        cim_cfg=dict(
            intervention_strategy='topk', intervention_k=_base_.intervention_k,
            intervention_k_val=1),
        keypoint_connections=_base_.keypoint_connections,
        keypoint_groups=_base_.keypoint_groups))
