# Size x: depth and width of the backbone.
_base_ = './cigpose.py'

model = dict(
    backbone=dict(deepen_factor=1.33, widen_factor=1.25),
    head=dict(in_channels=1280))
