// What the operations (operations.cc) ask of the loops (loops.cc), which are compiled once for each
// kind of vectors that a processor may have.
#pragma once
#include <cstddef>
#include <cstdint>

enum Kind { BYTE, FLOAT, BFLOAT };  // uint8, float32, bfloat16

// A batch of pictures behind a normalisation: (x - centre) * scale + shift for each channel; without
// one (nullptr), bytes are divided by 255.
struct Input {
  const void* x;  // (n, height, width, channels)
  Kind kind;
  int height, width, channels;
  const float *centre, *scale, *shift;
};

// ReLU of a 3 x 3 convolution's outputs, what a normalisation needs to know of them, and what is left
// of them by a pooling of 2 x 2 behind that.
struct Activations {
  Kind kind;
  int height, width, channels;
  void* z;         // (n, height, width, channels); not written if it is nullptr
  void* pooled;    // (n, height / 2, width / 2, channels): the largest of four, the smallest where
                   // gamma is negative
  uint8_t* place;  // of the same shape: which of the four, by rows
  double* sums;    // (n, 2, channels): sums of z and of its squares, per picture
};

// Gradient of the normalised and pooled activations, and what makes that of the activations of it:
// dz = factor * dy - offset - slope * (z - mean) where z is positive.
struct Upstream {
  const void* dy;  // (n, height / 2, width / 2, channels), of the kind of the activations
  const uint8_t* place;
  const float *mean, *factor, *offset, *slope;  // (channels)
};

struct Loops {
  const char* name;
  int lanes;

  // Convolution of picture n with kernel (3, 3, channels, outputs), bias and ReLU.
  void (*convolve)(const Input&, const float* kernel, const float* bias, const float* gamma,
                   const Activations&, size_t n, float* scratch);

  // Of picture n: d_kernel (3, 3, channels, outputs), d_bias (outputs), and, if dx isn't nullptr,
  // dx of the input's shape behind its normalisation. turned: the kernel from turn().
  void (*gradient)(const Input&, const float* turned, const Activations&, const Upstream&,
                   float* d_kernel, float* d_bias, void* dx, size_t n, float* scratch);

  // The same for outputs x of a convolution that was computed elsewhere, without its bias.
  void (*activate)(const void* x, const float* bias, const float* gamma, const Activations&, size_t n,
                   float* scratch);
  void (*activate_gradient)(const void* x, const float* bias, const Activations&, const Upstream&,
                            void* dz, float* d_bias, size_t n, float* scratch);

  // y = (x - centre) * scale + shift of `pixels` pixels.
  void (*normalise)(const void* x, Kind, const float* centre, const float* scale, const float* shift,
                    void* y, size_t pixels, int channels);

  // sums (2, channels) of dy and of dy * (x - centre), over `pixels` pixels.
  void (*products)(const void* x, const void* dy, Kind, const float* centre, double* sums,
                   size_t pixels, int channels);
};

// The kernel of the gradient with respect to the input: (3, 3, outputs, channels), taps reversed.
void turn(const float* kernel, int channels, int outputs, float* turned);

// Floats of scratch memory that any loop needs.
inline size_t scratch_size(int width, int channels, int outputs) {
  return 3 * size_t(width) * channels + 4 * size_t(width + 4) * outputs + 64 * 8;
}

inline bool supported(int channels, int outputs) {
  return (channels == 3 && outputs == 32) || (channels == 32 && outputs == 64);
}

extern const Loops loops_4, loops_8, loops_16;
