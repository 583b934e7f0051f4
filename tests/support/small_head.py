"""Small heads with the published graphs, and the golden vectors of the published head."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from cigpose_export.modeling.build import load_config, register_head
from cigpose_export.openmmlab import MODELS

CLONE = Path(__file__).resolve().parents[2]
GOLDEN = CLONE / "tests" / "data" / "golden"
CONFIG_WITH = {133: "coco-wholebody", 17: "coco", 14: "crowdpose"}


def make_head(
    num_keypoints=17,
    *,
    layers=1,
    k=1,
    strategy="topk",
    threshold=0.5,
    connections=None,
    groups=None,
    name="CIGHead",
    gau=None,
):
    """A reference head on 24 channels for a 64x96 input, in eval mode, values not set."""
    graph = load_config(CLONE / "configs" / f"cigpose-m_{CONFIG_WITH[num_keypoints]}_256x192.py")
    register_head()
    head = MODELS.build(
        dict(
            type=name,
            in_channels=24,
            out_channels=num_keypoints,
            input_size=(64, 96),
            in_featuremap_size=(2, 3),
            final_layer_kernel_size=7,
            gau_cfg=dict(
                hidden_dims=32,
                s=16,
                expansion_factor=2,
                dropout_rate=0.0,
                drop_path=0.0,
                act_fn="SiLU",
                **{"use_rel_bias": False, "pos_enc": False, **(gau or {})},
            ),
            loss=dict(type="KLDiscretLoss", use_target_weight=True),
            gcn_cfg=dict(num_layers=layers, input_dim=32, hidden_dim=32),
            cim_cfg=dict(
                intervention_strategy=strategy,
                intervention_k_val=k,
                intervention_threshold=threshold,
            ),
            keypoint_connections=(
                graph.keypoint_connections if connections is None else connections
            ),
            keypoint_groups=graph.keypoint_groups if groups is None else groups,
        )
    )
    return head.eval().requires_grad_(False)


@dataclass(frozen=True)
class Golden:
    """Weights, input and outputs of a small head, computed by the published code."""

    config: dict
    state_dict: dict
    features: torch.Tensor
    simcc_x: np.ndarray
    simcc_y: np.ndarray
    intervened: np.ndarray
    confound_score: np.ndarray

    def head(self):
        """The reference head with these weights."""
        head = make_head(
            self.config["num_keypoints"],
            layers=self.config["gcn_num_layers"],
            k=self.config["intervention_k_val"],
        )
        head.load_state_dict(self.state_dict)
        return head


def golden(name):
    """The golden vectors of one file in tests/data/golden."""
    content = np.load(GOLDEN / f"{name}.npz")
    return Golden(
        config=json.loads(str(content["config"])),
        state_dict={
            key.removeprefix("sd/"): torch.from_numpy(content[key])
            for key in content.files
            if key.startswith("sd/")
        },
        features=torch.from_numpy(content["feats"]),
        simcc_x=content["simcc_x"],
        simcc_y=content["simcc_y"],
        intervened=content["intervened"],
        confound_score=content["confound_score"],
    )


GOLDEN_NAMES = sorted(path.stem for path in GOLDEN.glob("*.npz"))
