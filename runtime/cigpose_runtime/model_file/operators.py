"""The operators that a model may consist of, by domain.

A list of what is allowed, not of what is forbidden: an operator that is new, or that nobody thought
of, is refused. What is on it computes dense tensors from dense tensors, always the same ones, in a
time that follows from their sizes. So there is no control flow (a `Loop` may never end), nothing
random, no text, no sequence, no recurrence, no decoder of pictures.
"""

from collections.abc import Mapping

# What exporters write for networks that look at pictures: ours, detectors, and a graph that goes
# from the frame to the keypoints.
_STANDARD = """
    Abs Acos Acosh Add AffineGrid And ArgMax ArgMin Asin Asinh Atan Atanh AveragePool
    BatchNormalization BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor Cast CastLike Ceil Celu
    CenterCropPad Clip Compress Concat Constant ConstantOfShape Conv ConvTranspose Cos Cosh CumSum
    DepthToSpace Div Dropout Einsum Elu Equal Erf Exp Expand Flatten Floor Gather GatherElements
    GatherND Gelu Gemm GlobalAveragePool GlobalMaxPool Greater GreaterOrEqual GridSample
    GroupNormalization HardSigmoid HardSwish Identity InstanceNormalization IsInf IsNaN
    LayerNormalization LeakyRelu Less LessOrEqual Log LogSoftmax LpNormalization MatMul Max MaxPool
    Mean Min Mish Mod Mul Neg NonMaxSuppression NonZero Not OneHot Or PRelu Pad Pow RMSNormalization
    Range Reciprocal ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin
    ReduceProd ReduceSum ReduceSumSquare Relu Reshape Resize RoiAlign Round Scatter ScatterElements
    ScatterND Selu Shape Shrink Sigmoid Sign Sin Sinh Size Slice Softmax Softplus Softsign
    SpaceToDepth Split Sqrt Squeeze Sub Sum Swish Tan Tanh ThresholdedRelu Tile TopK Transpose Trilu
    Unsqueeze Upsample Where Xor
"""

# What onnxruntime writes in their place when it quantizes or optimises.
_QUANTIZED = """
    ConvInteger DequantizeLinear DynamicQuantizeLinear MatMulInteger QLinearConv QLinearMatMul
    QuantizeLinear
"""
_OPTIMISED = "SimplifiedLayerNormalization"  # not in ONNX, but onnxruntime puts it there
# https://github.com/microsoft/onnxruntime/blob/v1.32.0/docs/ContribOperators.md
_MICROSOFT = """
    BiasGelu BiasSoftmax DequantizeLinear DynamicQuantizeMatMul FastGelu FusedConv FusedGemm
    FusedMatMul FusedMatMulActivation Gelu MatMulIntegerToFloat MatMulNBits NhwcConv NhwcFusedConv
    NhwcMaxPool QGemm QLinearAdd QLinearAveragePool QLinearConcat QLinearConv
    QLinearGlobalAveragePool QLinearLeakyRelu QLinearMul QLinearReduceMean QLinearSigmoid
    QLinearSoftmax QLinearWhere QuantizeLinear QuickGelu SkipLayerNormalization
    SkipSimplifiedLayerNormalization TransposeMatMul
"""
# Blocked layouts of its kernels for CPUs, at the highest level of optimisation.
_NCHWC = """
    AveragePool Conv GlobalAveragePool GlobalMaxPool MaxPool ReorderInput ReorderOutput Upsample
"""

STANDARD_DOMAIN = ""

ALLOWED: Mapping[str, frozenset[str]] = {
    STANDARD_DOMAIN: frozenset(f"{_STANDARD} {_QUANTIZED} {_OPTIMISED}".split()),
    "com.microsoft": frozenset(_MICROSOFT.split()),
    "com.microsoft.nchwc": frozenset(_NCHWC.split()),
}
"""Operators by domain."""


def standard_name(domain: str) -> str:
    """A domain by the one name that this module has for it: ONNX's own has two."""
    return STANDARD_DOMAIN if domain == "ai.onnx" else domain
