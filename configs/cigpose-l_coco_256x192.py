_base_ = './_base_/coco.py'
