# UBody with COCO-WholeBody: the keypoints and the graph of COCO-WholeBody.
_base_ = './coco-wholebody.py'

dataset_type = 'UBody2dDataset'
