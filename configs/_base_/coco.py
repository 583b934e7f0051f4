# COCO: its 17 keypoints as the head's graph.
_base_ = './cigpose.py'

dataset_type = 'CocoDataset'
num_keypoints = 17

# Undirected edges of the graph network.
keypoint_connections = [
    (0, 1), (0, 2), (1, 2), (2, 4), (3, 1), (4, 6), (3, 5), (5, 6), (6, 8), (8, 10), (5, 7),
    (7, 9), (5, 11), (6, 12), (11, 12), (11, 13), (13, 15), (14, 12), (14, 16),
]

# Body parts that attend to one another.
keypoint_groups = [
    [0, 1, 2, 3, 4], [5, 7, 9], [6, 8, 10], [11, 12], [11, 13, 15], [12, 14, 16],
]

gcn_num_layers = 1
intervention_k = 1  # while training; inference replaces one keypoint

model = dict(head=dict(
    out_channels=num_keypoints,
    gcn_cfg=dict(num_layers=gcn_num_layers),
    cim_cfg=dict(intervention_k=intervention_k),
    keypoint_connections=keypoint_connections,
    keypoint_groups=keypoint_groups))
