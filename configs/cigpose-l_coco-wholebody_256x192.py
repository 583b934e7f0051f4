_base_ = './_base_/coco-wholebody.py'
