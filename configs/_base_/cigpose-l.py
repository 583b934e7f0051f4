# Size l: depth and width of the backbone.
_base_ = './cigpose.py'

model = dict(
    backbone=dict(deepen_factor=1.0, widen_factor=1.0),
    head=dict(in_channels=1024))
