"""The networks in the box, besides ``table``: each module builds them from the shape of its input.

Every function takes the shape (size, size, 3) and returns a Keras model: values 0…255 in RGB of
that shape → probabilities (n, 2) of authentic and tampered, softmax. Weights are drawn from Keras'
global seed, in the types of Keras' global dtype policy.
"""
