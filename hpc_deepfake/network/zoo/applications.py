"""Networks of Keras' applications, untrained, with two outputs.

Pictures are scaled within the network as its published weights expect them, so that those can be
taken over by ``--init``.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import layers

from hpc_deepfake.network.zoo.layers import Shape


def resnet50(shape: Shape) -> keras.Model:
    """ResNet-50: He, Zhang, Ren & Sun 2016, "Deep residual learning for image recognition" (CVPR),
    arXiv 1512.03385; in the form of Caffe: blue-green-red, less the mean of ImageNet."""
    start = keras.Input(shape, name="picture")
    x = layers.Rescaling(1.0, offset=[-103.939, -116.779, -123.68], name="rescaling")(
        start[..., ::-1])
    return keras.applications.ResNet50(input_tensor=x, name="resnet50", **_options(shape))


def xception(shape: Shape) -> keras.Model:
    """Xception: Chollet 2017, "Xception: deep learning with depthwise separable convolutions"
    (CVPR), arXiv 1610.02357; values from -1 to 1."""
    start = keras.Input(shape, name="picture")
    x = layers.Rescaling(1 / 127.5, offset=-1.0, name="rescaling")(start)
    return keras.applications.Xception(input_tensor=x, name="xception", **_options(shape))


def efficientnetv2b0(shape: Shape) -> keras.Model:
    """EfficientNetV2-B0: Tan & Le 2021, "EfficientNetV2: smaller models and faster training"
    (ICML), arXiv 2104.00298."""
    return keras.applications.EfficientNetV2B0(include_preprocessing=True,
                                               **_options(shape))


def mobilenetv3(shape: Shape) -> keras.Model:
    """MobileNetV3-Large: Howard et al. 2019, "Searching for MobileNetV3" (ICCV), arXiv
    1905.02244."""
    return keras.applications.MobileNetV3Large(include_preprocessing=True, name="mobilenetv3",
                                               **_options(shape))


def _options(shape: Shape) -> dict[str, Any]:
    return {"weights": None, "classes": 2, "input_shape": shape,
            "classifier_activation": "softmax"}
