"""The two convolution blocks of the table network, each in one pass over memory, for ranks on CPUs.

TensorFlow computes convolution, bias, ReLU, batch normalisation and pooling one after the other,
and each reads and writes the first block's 65 MB (of 32 pictures). The operations here, in C++,
write them once. ReLU's output z is normalised as y = (z - mean) * gamma / sqrt(variance + epsilon)
+ beta, which is monotonic in z. So pooling comes first, by the sign of gamma: it needs no
statistics and leaves a quarter of the numbers. The next layer normalises them as it reads them.

The bits are the same on processors with AVX2 and with AVX-512, and for any number of threads. In
bfloat16 the first convolution computes in float32, and the second one is TensorFlow's, which may
use matrix instructions.
"""

from hpc_deepfake.network.blocks.library import COMMAND, LAYERS, agree, missing, usable, vectors

__all__ = ["COMMAND", "LAYERS", "agree", "missing", "usable", "vectors"]
