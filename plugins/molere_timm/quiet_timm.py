"""timm, imported without its warnings: older releases compile with torch.jit at import, which torch deprecates."""

import warnings

with warnings.catch_warnings():
    for category in (FutureWarning, DeprecationWarning):
        warnings.filterwarnings("ignore", message=r".*torch\.jit", category=category)
    import timm
    from timm.layers import BatchNormAct2d, ClassifierHead, create_conv2d
    from timm.models.resnet import BasicBlock, ResNet
    from timm.models.resnetv2 import ResNetV2

__all__ = ["BasicBlock", "BatchNormAct2d", "ClassifierHead", "ResNet", "ResNetV2", "create_conv2d", "timm"]
