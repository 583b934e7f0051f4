_base_ = './cigpose-l_crowdpose_256x192.py'

codec = dict(input_size=(288, 384), sigma=(6.0, 6.93))
model = dict(head=dict(
    input_size=codec['input_size'], in_featuremap_size=(9, 12), decoder=codec))
