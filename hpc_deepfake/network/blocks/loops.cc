// The loops for vectors of LANES floats. Each sum is computed in one order, whatever the lanes and the
// threads, so that the results only depend on whether the processor has fused multiply-add.
//
// Nothing here may come from another header's inline functions: the linker would keep one copy, which
// may be for vectors that the processor doesn't have.
#include "loops.h"

#if defined(__AVX512F__) || defined(__AVX2__)
#include <immintrin.h>
#endif

#define UNROLLED _Pragma("GCC unroll 32")
#define INLINE static inline __attribute__((always_inline))

namespace {

typedef float V __attribute__((vector_size(LANES * 4)));
typedef float VU __attribute__((vector_size(LANES * 4), aligned(4), may_alias));
typedef int32_t I __attribute__((vector_size(LANES * 4)));
typedef uint32_t U __attribute__((vector_size(LANES * 4)));
typedef uint16_t H __attribute__((vector_size(LANES * 2)));
typedef uint16_t HU __attribute__((vector_size(LANES * 2), aligned(2), may_alias));
typedef uint8_t B __attribute__((vector_size(LANES)));
typedef uint8_t BU __attribute__((vector_size(LANES), aligned(1), may_alias));

INLINE V splat(float x) { return x - V{}; }

// Types of the numbers in memory.
struct Float {
  typedef float Stored;
  INLINE V load(const float* x) { return *(const VU*)x; }
  INLINE V rounded(V x) { return x; }
  INLINE void store(float* y, V x) { *(VU*)y = x; }
  // past the caches: what is read again only after all of them have been replaced
  INLINE void stream(float* y, V x) {
#if LANES == 16
    _mm512_stream_ps(y, (__m512)x);
#elif LANES == 8
    _mm256_stream_ps(y, (__m256)x);
#else
    store(y, x);
#endif
  }
};

struct Bfloat {
  typedef uint16_t Stored;
  INLINE V load(const uint16_t* x) {
    return (V)(__builtin_convertvector(*(const HU*)x, U) << 16);
  }
  INLINE U bits(V x) {  // to nearest, ties to even; infinities and NaN stay what they are
    U u = (U)x;
    U up = u + 0x7fff + ((u >> 16) & 1);
    return ((U)(x == x) & up) | ((U)(x != x) & (u | 0x400000));
  }
  INLINE V rounded(V x) { return (V)(bits(x) & 0xffff0000u); }
  INLINE void store(uint16_t* y, V x) { *(HU*)y = __builtin_convertvector(bits(x) >> 16, H); }
  INLINE void stream(uint16_t* y, V x) { store(y, x); }
};

INLINE void fence() {
#if LANES > 4
  _mm_sfence();
#endif
}

// Largest of ReLU: NaN stays NaN, so that a diverged training is noticed.
INLINE V relu(V x) { return x < V{} ? V{} : x; }

// --- a row of the convolution -----------------------------------------------------------------

// Outputs of P pixels from x on and of C vectors of channels. A pixel's three taps of a row are
// neighbours in memory, so that each row of the kernel is one product of 3 * IN by its outputs.
template <int IN, int OUT, int P, int C, bool RELU, class T>
INLINE void tile(const float* const* rows, int x, const float* kernel, const float* bias, float* out) {
  V sum[P][C];
  UNROLLED for (int p = 0; p < P; p++)
    UNROLLED for (int c = 0; c < C; c++) sum[p][c] = bias ? *(const VU*)(bias + c * LANES) : V{};
  for (int tap = 0; tap < 3; tap++) {
    const float* a = rows[tap] + x * IN;
    const float* b = kernel + tap * 3 * IN * OUT;
    for (int k = 0; k < 3 * IN; k++) {
      V w[C];
      UNROLLED for (int c = 0; c < C; c++) w[c] = *(const VU*)(b + k * OUT + c * LANES);
      UNROLLED for (int p = 0; p < P; p++) {
        V s = splat(a[p * IN + k]);
        UNROLLED for (int c = 0; c < C; c++) sum[p][c] += s * w[c];
      }
    }
  }
  UNROLLED for (int p = 0; p < P; p++)
    UNROLLED for (int c = 0; c < C; c++)
      *(VU*)(out + (x + p) * OUT + c * LANES) = RELU ? T::rounded(relu(sum[p][c])) : sum[p][c];
}

// The remaining `rest` pixels, fewer than a tile has.
template <int IN, int OUT, int P, int C, bool RELU, class T>
INLINE void last_tile(int rest, const float* const* rows, int x, const float* kernel, const float* bias,
                      float* out) {
  if constexpr (P > 0) {
    if (rest == P) {
      tile<IN, OUT, P, C, RELU, T>(rows, x, kernel, bias, out);
    } else {
      last_tile<IN, OUT, P - 1, C, RELU, T>(rest, rows, x, kernel, bias, out);
    }
  }
}

template <int OUT>
struct Tiles {  // as many sums as leave registers for a pixel and a row of the kernel
#if LANES == 16
  static constexpr int C = OUT == 64 ? 4 : 2, P = OUT == 64 ? 6 : 12;
#else
  static constexpr int C = 4, P = 3;
#endif
};

template <int IN, int OUT, bool RELU, class T>
static void __attribute__((noinline))
convolved_row(const float* const* rows, int width, const float* kernel, const float* bias, float* out) {
  constexpr int C = Tiles<OUT>::C, P = Tiles<OUT>::P;
  for (int o = 0; o < OUT; o += C * LANES) {
    int x = 0;
    const float* b = bias ? bias + o : nullptr;
    for (; x + P <= width; x += P) tile<IN, OUT, P, C, RELU, T>(rows, x, kernel + o, b, out + o);
    last_tile<IN, OUT, P - 1, C, RELU, T>(width - x, rows, x, kernel + o, b, out + o);
  }
}

// --- activations: written out, summed, pooled ------------------------------------------------------

template <int OUT>
struct Sums {
  double sum[OUT] = {}, squares[OUT] = {};
  float about[OUT] = {};  // near the mean, so that squares lose no digits

  // Adds a row, and writes it to z.
  template <class T>
  void add(const float* row, int width, typename T::Stored* z) {
    float first[OUT], second[OUT];
    for (int o = 0; o < OUT; o += LANES) {
      V s{}, q{}, m = *(const VU*)(about + o);
      for (int x = 0; x < width; x++) {
        V v = *(const VU*)(row + x * OUT + o);
        V d = v - m;
        s += d;
        q += d * d;
      }
      *(VU*)(first + o) = s;
      *(VU*)(second + o) = q;
    }
    if (z)
      for (int i = 0; i < width * OUT; i += LANES) T::stream(z + i, *(const VU*)(row + i));
    for (int o = 0; o < OUT; o++) {
      double m = about[o], s = first[o];
      sum[o] += width * m + s;
      squares[o] += second[o] + 2 * m * s + width * m * m;
      about[o] = float(m + s / width);
    }
  }

  void start(const float* row) {
    for (int o = 0; o < OUT; o++) about[o] = row[o];
  }

  void write(double* sums) const {
    for (int o = 0; o < OUT; o++) sums[o] = sum[o], sums[OUT + o] = squares[o];
  }
};

// The first one of the largest of each 2 x 2, or of the smallest where gamma is negative.
template <class T, int OUT>
static void pooled_row(const float* above, const float* below, int width, const float* gamma,
                       typename T::Stored* pooled, uint8_t* place) {
  for (int x = 0; x < width; x++)
    for (int o = 0; o < OUT; o += LANES) {
      I negative = *(const VU*)(gamma + o) < V{};
      V sign = negative ? splat(-1) : splat(1);
      const float* four[4] = {above + 2 * x * OUT + o, above + (2 * x + 1) * OUT + o,
                              below + 2 * x * OUT + o, below + (2 * x + 1) * OUT + o};
      V best = *(const VU*)four[0] * sign;
      I where{};
      UNROLLED for (int i = 1; i < 4; i++) {
        V v = *(const VU*)four[i] * sign;
        I more = v > best;
        best = more ? v : best;
        where = more ? I{} + i : where;
      }
      T::store(pooled + x * OUT + o, best * sign);
      *(BU*)(place + x * OUT + o) = __builtin_convertvector(where, B);
    }
}

// Rows of activations, as `row(y, out)` computes them.
template <class T, int OUT, class Row>
INLINE void activations(const Activations& out, const float* gamma, size_t n, float* scratch, Row row) {
  typedef typename T::Stored S;
  const int w = out.width, half = w / 2;
  float* two[2] = {scratch, scratch + w * OUT};
  S* z = out.z ? (S*)out.z + n * out.height * w * OUT : nullptr;
  size_t pooled = n * (out.height / 2) * half * OUT;
  Sums<OUT> sums;
  for (int y = 0; y < out.height; y++) {
    float* line = two[y & 1];
    row(y, line);
    if (y == 0) sums.start(line);
    sums.template add<T>(line, w, z ? z + (size_t)y * w * OUT : nullptr);
    if (y & 1) {
      pooled_row<T, OUT>(two[0], two[1], half, gamma, (S*)out.pooled + pooled, out.place + pooled);
      pooled += half * OUT;
    }
  }
  sums.write(out.sums + n * 2 * OUT);
  fence();
}

// A row of input as floats, normalised.
template <class T, int IN>
INLINE void input_row(const Input& in, size_t n, int y, float* row) {
  const size_t start = (n * in.height + y) * in.width * IN;
  if constexpr (IN == 3) {
    const uint8_t* x = (const uint8_t*)in.x + start;
    for (int i = 0; i < in.width * IN; i++) row[i] = (float)x[i] * (1.f / 255);
  } else {
    const typename T::Stored* x = (const typename T::Stored*)in.x + start;
    for (int i = 0; i < in.width; i++)
      UNROLLED for (int c = 0; c < IN; c += LANES)
        *(VU*)(row + i * IN + c) = (T::load(x + i * IN + c) - *(const VU*)(in.centre + c)) *
                                     *(const VU*)(in.scale + c) + *(const VU*)(in.shift + c);
  }
}

template <class T, int IN, int OUT>
static void convolve(const Input& in, const float* kernel, const float* bias, const float* gamma,
                     const Activations& out, size_t n, float* scratch) {
  float* ring[3];
  for (int i = 0; i < 3; i++) ring[i] = scratch + i * in.width * IN;
  for (int y = 0; y < 2; y++) input_row<T, IN>(in, n, y, ring[y]);
  activations<T, OUT>(out, gamma, n, scratch + 3 * in.width * IN, [&](int y, float* line) {
    input_row<T, IN>(in, n, y + 2, ring[(y + 2) % 3]);
    const float* rows[3] = {ring[y % 3], ring[(y + 1) % 3], ring[(y + 2) % 3]};
    convolved_row<IN, OUT, true, T>(rows, out.width, kernel, bias, line);
  });
}

// --- gradients --------------------------------------------------------------------------------------

// dz of row y from the row's activations, `value(i)` for vector i of the row; adds to d_bias.
template <class T, int OUT, class Value>
INLINE void dz_row(const Activations& a, const Upstream& up, size_t n, int y, float* dz, float* d_bias,
                   Value value) {
  const int w = a.width, half = w / 2;
  const bool paired = y / 2 < a.height / 2;
  const size_t start = (n * (a.height / 2) + (paired ? y / 2 : 0)) * half * OUT;
  const typename T::Stored* dy = (const typename T::Stored*)up.dy + start;
  const uint8_t* place = up.place + start;
  const int row_place = (y & 1) * 2;
  for (int o = 0; o < OUT; o += LANES) {
    const V mean = *(const VU*)(up.mean + o), factor = *(const VU*)(up.factor + o),
            offset = *(const VU*)(up.offset + o), slope = *(const VU*)(up.slope + o);
    V sum{};
    auto one = [&](int x, V plus) {
      V z = value(x * OUT + o);
      V d = z > V{} ? plus - offset - slope * (z - mean) : V{};
      *(VU*)(dz + x * OUT + o) = d;
      sum += d;
    };
    int x = 0;
    if (paired)
      for (; x < half; x++) {
        V g = T::load(dy + x * OUT + o) * factor;
        I where = __builtin_convertvector(*(const BU*)(place + x * OUT + o), I) - row_place;
        one(2 * x, where == 0 ? g : V{});
        one(2 * x + 1, where == 1 ? g : V{});
      }
    for (x *= 2; x < w; x++) one(x, V{});
    *(VU*)(d_bias + o) += sum;
  }
}

// Adds to the gradient of one row of the kernel: (3 * IN, OUT) of a row of input and one of dz.
template <int IN, int OUT>
static void __attribute__((noinline))
kernel_row(const float* in, const float* dz, int width, float* d_kernel) {
#if LANES == 16
  constexpr int C = OUT == 64 ? 4 : 2, R = OUT == 64 ? 6 : 9;
#else
  constexpr int C = 4, R = 3;
#endif
  for (int k = 0; k < 3 * IN; k += R)
    for (int o = 0; o < OUT; o += C * LANES) {
      V sum[R][C];
      UNROLLED for (int r = 0; r < R; r++)
        UNROLLED for (int c = 0; c < C; c++) sum[r][c] = V{};
      for (int x = 0; x < width; x++) {
        V d[C];
        UNROLLED for (int c = 0; c < C; c++) d[c] = *(const VU*)(dz + x * OUT + o + c * LANES);
        UNROLLED for (int r = 0; r < R; r++) {
          V s = splat(in[x * IN + k + r]);
          UNROLLED for (int c = 0; c < C; c++) sum[r][c] += s * d[c];
        }
      }
      UNROLLED for (int r = 0; r < R; r++)
        UNROLLED for (int c = 0; c < C; c++)
          *(VU*)(d_kernel + (k + r) * OUT + o + c * LANES) += sum[r][c];
    }
}

template <class T, int IN, int OUT>
static void gradient(const Input& in, const float* turned, const Activations& a, const Upstream& up,
                     float* d_kernel, float* d_bias, void* dx, size_t n, float* scratch) {
  typedef typename T::Stored S;
  const int w = a.width, padded = (w + 4) * OUT;
  float* ring[3];
  for (int i = 0; i < 3; i++) ring[i] = scratch + i * in.width * IN;
  float* dz[3];  // with two empty pixels on both sides
  float* empty = scratch + 3 * in.width * IN;
  for (int i = 0; i < 3; i++) dz[i] = empty + (i + 1) * padded;
  __builtin_memset(empty, 0, 4 * padded * sizeof(float));
  __builtin_memset(d_kernel, 0, 9 * IN * OUT * sizeof(float));
  __builtin_memset(d_bias, 0, OUT * sizeof(float));
  for (int y = 0; y < 2; y++) input_row<T, IN>(in, n, y, ring[y]);
  const S* z = (const S*)a.z + n * a.height * w * OUT;
  for (int y = 0; y < in.height; y++) {
    if (y < a.height) {
      const S* row = z + (size_t)y * w * OUT;
      float* line = dz[y % 3] + 2 * OUT;
      dz_row<T, OUT>(a, up, n, y, line, d_bias, [&](int i) { return T::load(row + i); });
      input_row<T, IN>(in, n, y + 2, ring[(y + 2) % 3]);
      for (int tap = 0; tap < 3; tap++)
        kernel_row<IN, OUT>(ring[(y + tap) % 3], line, w, d_kernel + tap * 3 * IN * OUT);
    }
    if constexpr (IN % LANES == 0) {
      if (dx) {
        const float* rows[3];
        for (int tap = 0; tap < 3; tap++) {
          int from = y - 2 + tap;
          rows[tap] = from >= 0 && from < a.height ? dz[from % 3] : empty;
        }
        // the ring's oldest row is not needed any more
        float* line = ring[y % 3];
        convolved_row<OUT, IN, false, T>(rows, in.width, turned, nullptr, line);
        S* y_row = (S*)dx + (n * in.height + y) * in.width * IN;
        for (int i = 0; i < in.width * IN; i += LANES) T::stream(y_row + i, *(const VU*)(line + i));
      }
    }
  }
  fence();
}

template <class T, int OUT>
static void activate(const void* x, const float* bias, const float* gamma, const Activations& out,
                     size_t n, float* scratch) {
  const typename T::Stored* from = (const typename T::Stored*)x + n * out.height * out.width * OUT;
  activations<T, OUT>(out, gamma, n, scratch, [&](int y, float* line) {
    const typename T::Stored* row = from + (size_t)y * out.width * OUT;
    for (int i = 0; i < out.width * OUT; i += OUT)
      UNROLLED for (int o = 0; o < OUT; o += LANES)
        *(VU*)(line + i + o) = T::rounded(relu(T::load(row + i + o) + *(const VU*)(bias + o)));
  });
}

template <class T, int OUT>
static void activate_gradient(const void* x, const float* bias, const Activations& a, const Upstream& up,
                              void* dz, float* d_bias, size_t n, float* scratch) {
  typedef typename T::Stored S;
  const size_t start = n * a.height * a.width * OUT;
  __builtin_memset(d_bias, 0, OUT * sizeof(float));
  for (int y = 0; y < a.height; y++) {
    const S* row = (const S*)x + start + (size_t)y * a.width * OUT;
    S* to = (S*)dz + start + (size_t)y * a.width * OUT;
    dz_row<T, OUT>(a, up, n, y, scratch, d_bias, [&](int i) {
      return T::rounded(relu(T::load(row + i) + *(const VU*)(bias + i % OUT)));
    });
    for (int i = 0; i < a.width * OUT; i += LANES) T::store(to + i, *(const VU*)(scratch + i));
  }
}

// --- by channel ----------------------------------------------------------------------------------------

template <class T>
static void normalise(const void* x, const float* centre, const float* scale, const float* shift, void* y,
                      size_t pixels, int channels) {
  typedef typename T::Stored S;
  for (size_t p = 0; p < pixels; p++)
    for (int c = 0; c < channels; c += LANES)
      T::store((S*)y + p * channels + c,
               (T::load((const S*)x + p * channels + c) - *(const VU*)(centre + c)) *
                   *(const VU*)(scale + c) + *(const VU*)(shift + c));
}

template <class T>
static void products(const void* x, const void* dy, const float* centre, double* sums, size_t pixels,
                     int channels) {
  typedef typename T::Stored S;
  constexpr int LENGTH = 64;  // of sums in float32
  for (int c = 0; c < 2 * channels; c++) sums[c] = 0;
  for (size_t from = 0; from < pixels; from += LENGTH) {
    const size_t to = from + LENGTH < pixels ? from + LENGTH : pixels;
    for (int c = 0; c < channels; c += LANES) {
      V s{}, q{}, m = *(const VU*)(centre + c);
      for (size_t p = from; p < to; p++) {
        V d = T::load((const S*)dy + p * channels + c);
        s += d;
        q += d * (T::load((const S*)x + p * channels + c) - m);
      }
      UNROLLED for (int i = 0; i < LANES; i++) {
        sums[c + i] += s[i];
        sums[channels + c + i] += q[i];
      }
    }
  }
}

// --- choice of the types and numbers of channels, which are constants in the loops ------------------

template <class F>
INLINE void by_kind(Kind kind, F call) {
  if (kind == BFLOAT) {
    call(Bfloat{});
  } else {
    call(Float{});
  }
}

void any_convolve(const Input& in, const float* kernel, const float* bias, const float* gamma,
                  const Activations& out, size_t n, float* scratch) {
  by_kind(out.kind, [&](auto kind) {
    typedef decltype(kind) T;
    auto* own = in.channels == 3 ? convolve<T, 3, 32> : convolve<T, 32, 64>;
    own(in, kernel, bias, gamma, out, n, scratch);
  });
}

void any_gradient(const Input& in, const float* turned, const Activations& a, const Upstream& up,
                  float* d_kernel, float* d_bias, void* dx, size_t n, float* scratch) {
  by_kind(a.kind, [&](auto kind) {
    typedef decltype(kind) T;
    auto* own = in.channels == 3 ? gradient<T, 3, 32> : gradient<T, 32, 64>;
    own(in, turned, a, up, d_kernel, d_bias, dx, n, scratch);
  });
}

void any_activate(const void* x, const float* bias, const float* gamma, const Activations& out, size_t n,
                  float* scratch) {
  by_kind(out.kind, [&](auto kind) {
    typedef decltype(kind) T;
    auto* own = out.channels == 32 ? activate<T, 32> : activate<T, 64>;
    own(x, bias, gamma, out, n, scratch);
  });
}

void any_activate_gradient(const void* x, const float* bias, const Activations& a, const Upstream& up,
                           void* dz, float* d_bias, size_t n, float* scratch) {
  by_kind(a.kind, [&](auto kind) {
    typedef decltype(kind) T;
    auto* own = a.channels == 32 ? activate_gradient<T, 32> : activate_gradient<T, 64>;
    own(x, bias, a, up, dz, d_bias, n, scratch);
  });
}

void any_normalise(const void* x, Kind kind, const float* centre, const float* scale, const float* shift,
                   void* y, size_t pixels, int channels) {
  by_kind(kind, [&](auto kind) {
    normalise<decltype(kind)>(x, centre, scale, shift, y, pixels, channels);
  });
}

void any_products(const void* x, const void* dy, Kind kind, const float* centre, double* sums,
                  size_t pixels, int channels) {
  by_kind(kind,
          [&](auto kind) { products<decltype(kind)>(x, dy, centre, sums, pixels, channels); });
}

}  // namespace

#define JOINED(a, b) a##b
#define NAMED(lanes) JOINED(loops_, lanes)
#define TEXT(x) #x
#define TEXT_OF(x) TEXT(x)

extern const Loops NAMED(LANES);
const Loops NAMED(LANES) = {TEXT_OF(SET), LANES, any_convolve, any_gradient, any_activate,
                            any_activate_gradient, any_normalise, any_products};
