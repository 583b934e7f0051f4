_base_ = './cigpose-l_coco-wholebody_256x192.py'

dataset_type = 'UBody2dDataset'
