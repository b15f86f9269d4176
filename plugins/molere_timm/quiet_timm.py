"""timm without the warnings of its import.

Older releases compile functions with torch.jit at import, which torch has deprecated.
"""

import warnings

with warnings.catch_warnings():
    for category in (FutureWarning, DeprecationWarning):
        warnings.filterwarnings("ignore", message=r".*torch\.jit", category=category)
    import timm
    from timm.layers.classifier import ClassifierHead
    from timm.layers.create_conv2d import create_conv2d
    from timm.layers.norm_act import BatchNormAct2d
    from timm.models.resnet import BasicBlock, ResNet
    from timm.models.resnetv2 import PreActBasic, ResNetV2

__all__ = [
    "BasicBlock",
    "BatchNormAct2d",
    "ClassifierHead",
    "PreActBasic",
    "ResNet",
    "ResNetV2",
    "create_conv2d",
    "timm",
]
