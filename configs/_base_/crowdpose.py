# CrowdPose: its 14 keypoints as the head's graph.
_base_ = './cigpose.py'

dataset_type = 'CrowdPoseDataset'
num_keypoints = 14

# Undirected edges of the graph network.
keypoint_connections = [
    (0, 2), (2, 4), (1, 3), (3, 5), (1, 13), (0, 13), (12, 13), (1, 7), (0, 6), (6, 7), (7, 9),
    (6, 8), (9, 11), (8, 10),
]

# Body parts that attend to one another.
keypoint_groups = [
    [0, 2, 4], [1, 3, 5], [6, 7], [6, 8, 10], [7, 9, 11], [13, 6, 7], [13, 12],
]

gcn_num_layers = 2
intervention_k = 1  # while training; inference replaces one keypoint

model = dict(head=dict(
    out_channels=num_keypoints,
    gcn_cfg=dict(num_layers=gcn_num_layers),
    cim_cfg=dict(intervention_k=intervention_k),
    keypoint_connections=keypoint_connections,
    keypoint_groups=keypoint_groups))
