_base_ = './_base_/crowdpose.py'
