_base_ = './cigpose-l_coco-wholebody_384x288.py'

dataset_type = 'UBody2dDataset'
