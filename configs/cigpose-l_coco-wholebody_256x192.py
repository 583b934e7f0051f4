_base_ = ['./_base_/cigpose-l.py', './_base_/coco-wholebody.py']

codec = dict(
    type='SimCCLabel', input_size=(192, 256), sigma=(4.9, 5.66),
    simcc_split_ratio=2.0, normalize=False, use_dark=False)
model = dict(head=dict(
    out_channels=_base_.num_keypoints, input_size=codec['input_size'],
    in_featuremap_size=(6, 8), decoder=codec,
    gau_cfg=dict(hidden_dims=256, s=128),
    gcn_cfg=dict(num_layers=_base_.gcn_num_layers, input_dim=256, hidden_dim=256),
    cim_cfg=dict(
        intervention_strategy='topk', intervention_k=_base_.intervention_k, intervention_k_val=1),
    keypoint_connections=_base_.keypoint_connections, keypoint_groups=_base_.keypoint_groups))
