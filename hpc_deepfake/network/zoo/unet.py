"""A U-Net that says where a picture was changed: Ronneberger, Fischer & Brox 2015, "U-Net:
convolutional networks for biomedical image segmentation" (MICCAI), arXiv 1505.04597.

Decided here: four levels of 16 to 128 channels, small enough for processors without an accelerator;
same padding, so that the map has the size of the picture; batch normalisation; interpolation in
place of transposed convolutions, which leave a chequered pattern. Two things tell a changed region
from a picture that is bright, or noisy, all over: each channel is brought to a mean of 0 and a
deviation of 1 in each picture, since what a region's error level says depends on the others; and
the coarsest level gets its mean over the picture (Liu, Rabinovich & Berg 2015, "ParseNet", arXiv
1506.04579).
"""

from __future__ import annotations

import keras
from keras import KerasTensor, layers

from hpc_deepfake.network import maps
from hpc_deepfake.network.zoo.layers import LAST, Shape

_CHANNELS = (16, 32, 64, 96)
_RARE = -2.0  # log-odds of a pixel before anything is learned: most pixels aren't changed


def unet(shape: Shape) -> keras.Model:
    """The U-Net for pictures of a size that is a multiple of 8, of one or several features."""
    picture = keras.Input(shape, name="picture")
    x = layers.Rescaling(1 / 255, name="rescaling")(picture)
    x = layers.GroupNormalization(shape[-1], center=False, scale=False, name=maps.RELATIVE)(x)
    across: list[KerasTensor] = []
    for level, channels in enumerate(_CHANNELS, 1):
        x = _block(x, channels, f"down{level}")
        if level < len(_CHANNELS):
            across.append(x)
            x = layers.MaxPooling2D(2, name=f"pool{level}", **LAST)(x)
    whole = layers.GlobalAveragePooling2D(keepdims=True, name="whole", **LAST)(x)
    whole = layers.Conv2D(_CHANNELS[-1], 1, name="whole_conv", **LAST)(whole)
    x = layers.ReLU(name="whole_relu")(layers.Add(name="with_whole")([x, whole]))
    for level in range(len(_CHANNELS) - 1, 0, -1):
        x = layers.UpSampling2D(2, interpolation="bilinear", name=f"larger{level}", **LAST)(x)
        x = layers.Concatenate(name=f"joined{level}")([across.pop(), x])
        x = _block(x, _CHANNELS[level - 1], f"up{level}")
    log_odds = layers.Conv2D(1, 1, bias_initializer=keras.initializers.Constant(_RARE),
                             name=maps.LOG_ODDS, **LAST)(x)
    return maps.with_verdict(picture, log_odds, "unet")


def _block(x: KerasTensor, channels: int, name: str) -> KerasTensor:
    """Two convolutions of 3 × 3, each with normalisation and ReLU."""
    for number in (1, 2):
        x = layers.Conv2D(channels, 3, padding="same", use_bias=False, name=f"{name}_conv{number}",
                          **LAST)(x)
        x = layers.BatchNormalization(name=f"{name}_bn{number}")(x)
        x = layers.ReLU(name=f"{name}_relu{number}")(x)
    return x
