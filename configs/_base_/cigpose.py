# What all CIGPose models share. What differs is here as it is for size l and crops of 192x256, and a
# variant overrides it.
codec = dict(
    type='SimCCLabel',
    input_size=(192, 256),
    sigma=(4.9, 5.66),
    simcc_split_ratio=2.0,
    normalize=False,
    use_dark=False)

model = dict(
    type='TopdownPoseEstimator',
    data_preprocessor=dict(
        type='PoseDataPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True),
    backbone=dict(
        type='CSPNeXt',
        arch='P5',
        expand_ratio=0.5,
        deepen_factor=1.0,
        widen_factor=1.0,
        out_indices=(4, ),
        channel_attention=True,
        # Trained with SyncBN; at inference that is BN, with BN's own eps.
        norm_cfg=dict(type='BN'),
        act_cfg=dict(type='SiLU')),
    head=dict(
        type='CIGHead',
        in_channels=1024,
        input_size=codec['input_size'],
        in_featuremap_size=(6, 8),
        in_featuremap_num=1,
        simcc_split_ratio=codec['simcc_split_ratio'],
        final_layer_kernel_size=7,
        gau_cfg=dict(
            hidden_dims=256,
            s=128,
            expansion_factor=2,
            dropout_rate=0.0,
            drop_path=0.0,
            act_fn='SiLU',
            use_rel_bias=False,
            pos_enc=False),
        gcn_cfg=dict(input_dim=256, hidden_dim=256),
        cim_cfg=dict(intervention_strategy='topk', intervention_k_val=1),
        loss=dict(type='KLDiscretLoss', use_target_weight=True, beta=10.0, label_softmax=True),
        loss_cf=dict(type='CounterfactualConsistencyLoss', use_kl=True, loss_weight=0.1),
        decoder=codec),
    test_cfg=dict(flip_test=True))

# MMPose's top-down inference pipeline.
box_padding = 1.25
