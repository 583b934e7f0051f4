_base_ = './cigpose-l_coco-wholebody_256x192.py'

codec = dict(input_size=(288, 384), sigma=(6.0, 6.93))
model = dict(head=dict(
    input_size=codec['input_size'], in_featuremap_size=(9, 12), decoder=codec,
    gau_cfg=dict(hidden_dims=512, s=256),
    gcn_cfg=dict(input_dim=512, hidden_dim=512)))
