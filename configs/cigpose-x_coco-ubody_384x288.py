_base_ = './cigpose-x_coco-wholebody_384x288.py'

dataset_type = 'UBody2dDataset'
