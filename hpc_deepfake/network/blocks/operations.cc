// TensorFlow's operations for the blocks of the table network: convolution, ReLU, batch statistics and
// pooling in one pass over memory, and their gradients. They use TensorFlow's C API, which stays the
// same from one version to the next. What each computes is in loops.h and in __init__.py.
#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "loops.h"
#include "tensorflow/c/c_api.h"
#include "tensorflow/c/kernels.h"
#include "tensorflow/c/ops.h"
#include "threads.h"

void turn(const float* kernel, int channels, int outputs, float* turned) {
  for (int tap = 0; tap < 9; tap++)
    for (int c = 0; c < channels; c++)
      for (int o = 0; o < outputs; o++)
        turned[((8 - tap) * outputs + o) * channels + c] = kernel[(tap * channels + c) * outputs + o];
}

namespace {

typedef std::vector<int64_t> Shape;

const Loops* best_loops() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq"))
    return &loops_16;
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return &loops_8;
#endif
  return &loops_4;
}

// The loops of `lanes` floats, 0 for the best; nullptr if this processor does not have them.
const Loops* loops_of(int64_t lanes) {
  const Loops* best = best_loops();
  if (lanes == 0 || lanes == best->lanes) return best;
  if (lanes == 4) return &loops_4;
#if defined(__x86_64__)
  if (lanes == 8 && best->lanes == 16) return &loops_8;
#endif
  return nullptr;
}

struct Wrong {  // what an operation can't compute
  TF_Code code;
  std::string why;
};

void expect(bool right, const char* what) {
  if (!right) throw Wrong{TF_INVALID_ARGUMENT, what};
}

size_t size_of(TF_DataType type) { return TF_DataTypeSize(type); }

Kind kind_of(TF_DataType type) {
  expect(type == TF_UINT8 || type == TF_FLOAT || type == TF_BFLOAT16, "numbers must be uint8, float32 or bfloat16");
  return type == TF_UINT8 ? BYTE : type == TF_FLOAT ? FLOAT : BFLOAT;
}

// How an operation was defined.
struct Settings {
  int threads = 1;
  bool inputs = false;
  const Loops* loops = nullptr;
};

// One call of an operation: its inputs, and outputs.
class Call {
 public:
  explicit Call(TF_OpKernelContext* context) : context_(context), status_(TF_NewStatus()) {}
  ~Call() {
    for (TF_Tensor* tensor : tensors_) TF_DeleteTensor(tensor);
    TF_DeleteStatus(status_);
  }

  const void* input(int i) { return TF_TensorData(tensor(i)); }
  TF_DataType type(int i) { return TF_TensorType(tensor(i)); }

  Shape shape(int i) {
    TF_Tensor* t = tensor(i);
    Shape found(TF_NumDims(t));
    for (size_t d = 0; d < found.size(); d++) found[d] = TF_Dim(t, d);
    return found;
  }

  const float* vector(int i, int64_t length) {
    expect(type(i) == TF_FLOAT && shape(i) == Shape{length}, "numbers by channel must be float32, one for each");
    return static_cast<const float*>(input(i));
  }

  void* output(int i, TF_DataType type, const Shape& shape) {
    size_t bytes = size_of(type);
    for (int64_t length : shape) bytes *= length;
    TF_Tensor* t = TF_AllocateOutput(context_, i, type, shape.data(), shape.size(), bytes, status_);
    check();
    tensors_.push_back(t);
    return TF_TensorData(t);
  }

  int inputs() { return TF_NumInputs(context_); }
  TF_DataType output_type(int i) { return TF_ExpectedOutputDataType(context_, i); }

  void failed(const Wrong& wrong) {
    TF_SetStatus(status_, wrong.code, wrong.why.c_str());
    TF_OpKernelContext_Failure(context_, status_);
  }

 private:
  TF_Tensor* tensor(int i) {
    if (size_t(i) >= given_.size()) given_.resize(i + 1);
    if (!given_[i]) {
      TF_GetInput(context_, i, &given_[i], status_);
      check();
      tensors_.push_back(given_[i]);
    }
    return given_[i];
  }

  void check() {
    if (TF_GetCode(status_) != TF_OK) throw Wrong{TF_GetCode(status_), TF_Message(status_)};
  }

  TF_OpKernelContext* context_;
  TF_Status* status_;
  std::vector<TF_Tensor*> given_, tensors_;
};

// Memory of this thread for the rows that a loop works on, aligned to cache lines.
float* scratch(size_t floats) {
  thread_local std::vector<float> own;
  if (own.size() < floats + 16) own.resize(floats + 16);
  return reinterpret_cast<float*>((reinterpret_cast<uintptr_t>(own.data()) + 63) / 64 * 64);
}

Input input_of(Call& call, int x, int normalisation) {
  const Shape shape = call.shape(x);
  expect(shape.size() == 4 && shape[1] >= 4 && shape[2] >= 4, "pictures must be (n, height, width, channels)");
  Input in{call.input(x), kind_of(call.type(x)), int(shape[1]), int(shape[2]), int(shape[3]), nullptr, nullptr, nullptr};
  expect((in.kind == BYTE) == (in.channels == 3), "pictures of 3 channels must be bytes, others not");
  if (in.kind == BYTE) return in;
  expect(call.inputs() == normalisation + 3, "the input's normalisation is missing");
  in.centre = call.vector(normalisation, in.channels);
  in.scale = call.vector(normalisation + 1, in.channels);
  in.shift = call.vector(normalisation + 2, in.channels);
  return in;
}

Upstream upstream_of(Call& call, int dy, const Activations& a, int64_t n) {
  const Shape half{n, a.height / 2, a.width / 2, a.channels};
  expect(call.shape(dy) == half && kind_of(call.type(dy)) == a.kind, "the gradient does not fit the activations");
  expect(call.shape(dy + 1) == half && call.type(dy + 1) == TF_UINT8, "the places do not fit the activations");
  return {call.input(dy), static_cast<const uint8_t*>(call.input(dy + 1)), call.vector(dy + 2, a.channels),
          call.vector(dy + 3, a.channels), call.vector(dy + 4, a.channels), call.vector(dy + 5, a.channels)};
}

int outputs_of(Call& call, int kernel, int channels) {
  const Shape shape = call.shape(kernel);
  expect(call.type(kernel) == TF_FLOAT && shape.size() == 4 && shape[0] == 3 && shape[1] == 3 &&
             shape[2] == channels && supported(channels, int(shape[3])),
         "the kernel must be float32 (3, 3, 3, 32) or (3, 3, 32, 64)");
  return int(shape[3]);
}

// Sums by picture, (n, length), added in the pictures' order.
template <class Number, class Sum>
void add_up(const std::vector<Number>& by_picture, size_t n, size_t length, Sum* sums) {
  std::vector<double> total(length);
  for (size_t i = 0; i < n; i++)
    for (size_t k = 0; k < length; k++) total[k] += by_picture[i * length + k];
  for (size_t k = 0; k < length; k++) sums[k] = Sum(total[k]);
}

// x, kernel, bias, gamma, [centre, scale, shift] -> z, pooled, place, sums
void convolution(Call& call, const Settings& how) {
  const int64_t n = call.shape(0).at(0);
  const Input in = input_of(call, 0, 4);
  const int outputs = outputs_of(call, 1, in.channels);
  const auto* kernel = static_cast<const float*>(call.input(1));
  const float *bias = call.vector(2, outputs), *gamma = call.vector(3, outputs);
  const TF_DataType type = call.output_type(0);
  expect(in.kind == BYTE || call.type(0) == type, "input and activations must be of one type");
  const int64_t h = in.height - 2, w = in.width - 2;
  const Shape half{n, h / 2, w / 2, outputs};
  std::vector<double> sums(n * 2 * outputs);
  const Activations out{kind_of(type), int(h), int(w), outputs, call.output(0, type, {n, h, w, outputs}),
                        call.output(1, type, half), static_cast<uint8_t*>(call.output(2, TF_UINT8, half)), sums.data()};
  const size_t floats = scratch_size(in.width, in.channels, outputs);
  Threads::share(how.threads, n, [&](size_t i) {
    how.loops->convolve(in, kernel, bias, gamma, out, i, scratch(floats));
  });
  add_up(sums, n, 2 * outputs, static_cast<double*>(call.output(3, TF_DOUBLE, {2, outputs})));
}

// x, kernel, z, dy, place, mean, factor, offset, slope, [centre, scale, shift] -> d_kernel, d_bias, dx
void convolution_gradient(Call& call, const Settings& how) {
  const int64_t n = call.shape(0).at(0);
  const Input in = input_of(call, 0, 9);
  const int outputs = outputs_of(call, 1, in.channels);
  const int h = in.height - 2, w = in.width - 2;
  const TF_DataType type = call.type(2);
  expect(call.shape(2) == Shape({n, h, w, outputs}) && type != TF_UINT8, "the activations do not fit the input");
  const Activations a{kind_of(type), h, w, outputs, const_cast<void*>(call.input(2)), nullptr, nullptr, nullptr};
  expect(in.kind == BYTE || in.kind == a.kind, "input and activations must be of one type");
  expect(!how.inputs || in.kind != BYTE, "bytes have no gradient");
  const Upstream up = upstream_of(call, 3, a, n);
  const size_t kernel = 9 * size_t(in.channels) * outputs;
  std::vector<float> turned(kernel), by_picture(n * (kernel + outputs));
  turn(static_cast<const float*>(call.input(1)), in.channels, outputs, turned.data());
  void* dx = call.output(2, type, how.inputs ? call.shape(0) : Shape{0});
  const size_t floats = scratch_size(in.width, in.channels, outputs);
  Threads::share(how.threads, n, [&](size_t i) {
    float* own = &by_picture[i * (kernel + outputs)];
    how.loops->gradient(in, turned.data(), a, up, own, own + kernel, how.inputs ? dx : nullptr, i, scratch(floats));
  });
  std::vector<float> sums(kernel + outputs);
  add_up(by_picture, n, kernel + outputs, sums.data());
  std::copy_n(sums.data(), kernel, static_cast<float*>(call.output(0, TF_FLOAT, call.shape(1))));
  std::copy_n(&sums[kernel], outputs, static_cast<float*>(call.output(1, TF_FLOAT, {outputs})));
}

Activations activations_of(Call& call) {
  const Shape shape = call.shape(0);
  expect(shape.size() == 4 && (shape[3] == 32 || shape[3] == 64) && call.type(0) != TF_UINT8,
         "activations must be (n, height, width, 32 or 64)");
  return {kind_of(call.type(0)), int(shape[1]), int(shape[2]), int(shape[3]), nullptr, nullptr, nullptr, nullptr};
}

// x, bias, gamma -> pooled, place, sums
void activation(Call& call, const Settings& how) {
  Activations out = activations_of(call);
  const int64_t n = call.shape(0)[0];
  const Shape half{n, out.height / 2, out.width / 2, out.channels};
  std::vector<double> sums(n * 2 * out.channels);
  const float *bias = call.vector(1, out.channels), *gamma = call.vector(2, out.channels);
  const void* x = call.input(0);
  out.pooled = call.output(0, call.type(0), half);
  out.place = static_cast<uint8_t*>(call.output(1, TF_UINT8, half));
  out.sums = sums.data();
  const size_t floats = scratch_size(out.width, out.channels, out.channels);
  Threads::share(how.threads, n,
                 [&](size_t i) { how.loops->activate(x, bias, gamma, out, i, scratch(floats)); });
  add_up(sums, n, 2 * out.channels, static_cast<double*>(call.output(2, TF_DOUBLE, {2, out.channels})));
}

// x, bias, dy, place, mean, factor, offset, slope -> dz, d_bias
void activation_gradient(Call& call, const Settings& how) {
  const Activations a = activations_of(call);
  const int64_t n = call.shape(0)[0];
  const float* bias = call.vector(1, a.channels);
  const Upstream up = upstream_of(call, 2, a, n);
  const void* x = call.input(0);
  void* dz = call.output(0, call.type(0), call.shape(0));
  std::vector<float> by_picture(n * a.channels);
  const size_t floats = scratch_size(a.width, a.channels, a.channels);
  Threads::share(how.threads, n, [&](size_t i) {
    how.loops->activate_gradient(x, bias, a, up, dz, &by_picture[i * a.channels], i, scratch(floats));
  });
  add_up(by_picture, n, a.channels, static_cast<float*>(call.output(1, TF_FLOAT, {a.channels})));
}

// x, centre, scale, shift -> y
void normalisation(Call& call, const Settings& how) {
  const Shape shape = call.shape(0);
  const Activations a = activations_of(call);
  const float *centre = call.vector(1, a.channels), *scale = call.vector(2, a.channels), *shift = call.vector(3, a.channels);
  const auto* x = static_cast<const char*>(call.input(0));
  auto* y = static_cast<char*>(call.output(0, call.type(0), shape));
  const size_t pixels = size_t(a.height) * a.width, bytes = pixels * a.channels * size_of(call.type(0));
  Threads::share(how.threads, shape[0], [&](size_t i) {
    how.loops->normalise(x + i * bytes, a.kind, centre, scale, shift, y + i * bytes, pixels, a.channels);
  });
}

// x, dy, centre -> sums
void products(Call& call, const Settings& how) {
  const Shape shape = call.shape(0);
  const Activations a = activations_of(call);
  expect(call.shape(1) == shape && call.type(1) == call.type(0), "x and dy must be of one shape and type");
  const float* centre = call.vector(2, a.channels);
  const auto *x = static_cast<const char*>(call.input(0)), *dy = static_cast<const char*>(call.input(1));
  const size_t pixels = size_t(a.height) * a.width, bytes = pixels * a.channels * size_of(call.type(0));
  std::vector<double> sums(shape[0] * 2 * a.channels);
  Threads::share(how.threads, shape[0], [&](size_t i) {
    how.loops->products(x + i * bytes, dy + i * bytes, a.kind, centre, &sums[i * 2 * a.channels], pixels, a.channels);
  });
  add_up(sums, shape[0], 2 * a.channels, static_cast<double*>(call.output(0, TF_DOUBLE, {2, a.channels})));
}

// --- registration ------------------------------------------------------------------------------------

void* created(TF_OpKernelConstruction* construction) {
  auto* how = new Settings;
  TF_Status* status = TF_NewStatus();
  int64_t threads = 1, lanes = 0;
  TF_OpKernelConstruction_GetAttrInt64(construction, "threads", &threads, status);
  if (TF_GetCode(status) == TF_OK) TF_OpKernelConstruction_GetAttrInt64(construction, "lanes", &lanes, status);
  if (TF_GetCode(status) == TF_OK && TF_OpKernelConstruction_HasAttr(construction, "inputs", status)) {
    unsigned char inputs = 0;
    TF_OpKernelConstruction_GetAttrBool(construction, "inputs", &inputs, status);
    how->inputs = inputs;
  }
  how->threads = int(std::max<int64_t>(1, threads));
  how->loops = loops_of(lanes);
  if (TF_GetCode(status) == TF_OK && !how->loops)
    TF_SetStatus(status, TF_INVALID_ARGUMENT, "this processor has no vectors of so many lanes");
  if (TF_GetCode(status) != TF_OK) TF_OpKernelConstruction_Failure(construction, status);
  TF_DeleteStatus(status);
  return how;
}

void deleted(void* how) { delete static_cast<Settings*>(how); }

template <void (*compute)(Call&, const Settings&)>
void computed(void* how, TF_OpKernelContext* context) {
  Call call(context);
  try {
    compute(call, *static_cast<Settings*>(how));
  } catch (const Wrong& wrong) {
    call.failed(wrong);
  } catch (const std::exception& error) {  // such as std::bad_alloc
    call.failed({TF_RESOURCE_EXHAUSTED, error.what()});
  }
}

template <void (*compute)(Call&, const Settings&)>
void define(const char* name, const std::vector<const char*>& attributes, const std::vector<const char*>& inputs,
            const std::vector<const char*>& outputs) {
  TF_Status* status = TF_NewStatus();
  TF_OpDefinitionBuilder* definition = TF_NewOpDefinitionBuilder(name);
  for (const char* attribute : attributes) TF_OpDefinitionBuilderAddAttr(definition, attribute);
  for (const char* attribute : {"T: {float, bfloat16}", "threads: int = 1", "lanes: int = 0"})
    TF_OpDefinitionBuilderAddAttr(definition, attribute);
  for (const char* input : inputs) TF_OpDefinitionBuilderAddInput(definition, input);
  for (const char* output : outputs) TF_OpDefinitionBuilderAddOutput(definition, output);
  TF_OpDefinitionBuilderSetShapeInferenceFunction(definition, [](TF_ShapeInferenceContext* context, TF_Status* status) {
    TF_ShapeInferenceContextSetUnknownShape(context, status);
  });
  TF_RegisterOpDefinition(definition, status);
  if (TF_GetCode(status) == TF_OK) {
    TF_KernelBuilder* kernel = TF_NewKernelBuilder(name, "CPU", created, computed<compute>, deleted);
    TF_RegisterKernelBuilder(name, kernel, status);
  }
  if (TF_GetCode(status) != TF_OK) std::abort();  // a mistake in this file
  TF_DeleteStatus(status);
}

}  // namespace

extern "C" __attribute__((visibility("default"))) const char* hpc_deepfake_vectors() { return best_loops()->name; }

// called by TensorFlow when it loads the library
__attribute__((constructor)) static void registered() {
  define<convolution>("HpcDeepfakeConvolution", {"S: {uint8, float, bfloat16}", "count: int >= 0"},
                      {"x: S", "kernel: float", "bias: float", "gamma: float", "normalisation: count * float"},
                      {"z: T", "pooled: T", "place: uint8", "sums: double"});
  define<convolution_gradient>(
      "HpcDeepfakeConvolutionGradient", {"S: {uint8, float, bfloat16}", "count: int >= 0", "inputs: bool"},
      {"x: S", "kernel: float", "z: T", "dy: T", "place: uint8", "mean: float", "factor: float", "offset: float",
       "slope: float", "normalisation: count * float"},
      {"d_kernel: float", "d_bias: float", "dx: T"});
  define<activation>("HpcDeepfakeActivation", {}, {"x: T", "bias: float", "gamma: float"},
                     {"pooled: T", "place: uint8", "sums: double"});
  define<activation_gradient>("HpcDeepfakeActivationGradient", {},
                              {"x: T", "bias: float", "dy: T", "place: uint8", "mean: float", "factor: float",
                               "offset: float", "slope: float"},
                              {"dz: T", "d_bias: float"});
  define<normalisation>("HpcDeepfakeNormalise", {}, {"x: T", "centre: float", "scale: float", "shift: float"},
                        {"y: T"});
  define<products>("HpcDeepfakeProducts", {}, {"x: T", "dy: T", "centre: float"}, {"sums: double"});
}
