// Convolutions of stride 1, in vector registers. Both loops keep a tile of sums in registers, as many as there are:
//     combine       y[o][t]  = sum over k of w[o, k] x[offset_k + t]       a tile: some o, some neighbouring t
//     correlate     dw[o][k] = sum over t of dy[o][t] x[offset_k + t]      a tile: some o, some k
#include "framework/conv_direct.h"

#include <algorithm>
#include <cstring>
#include <utility>

namespace optnet {
namespace {

#if defined(__AVX512F__)
constexpr int vector_bytes = 64;
#elif defined(__AVX__)
constexpr int vector_bytes = 32;
#else
constexpr int vector_bytes = 16;
#endif
constexpr bool many_registers = vector_bytes == 64;  // 32 of them, else 16
constexpr int block = many_registers ? 8 : 4;        // values of o in a tile
constexpr int across = 3;                            // vectors of t in a tile of combine
constexpr int taps = many_registers ? 6 : 3;         // values of k in a tile of correlate
constexpr int correlated = 4;                        // values of o there

template <class T>
struct Lanes {
  typedef T Vector __attribute__((vector_size(vector_bytes)));
  static constexpr std::int64_t count = vector_bytes / sizeof(T);

  /// Into a register, to be used several times: else the compiler would read memory for each use, and loads are the limit.
  static Vector load(const T* x) {
    Vector v;
    std::memcpy(&v, x, sizeof v);
#if defined(__AVX512F__)
    asm("" : "+v"(v));
#elif defined(__x86_64__)
    asm("" : "+x"(v));
#endif
    return v;
  }
  static void store(const Vector& v, T* x) { std::memcpy(x, &v, sizeof v); }
  /// All lanes in log2(count) additions.
  static T sum(const Vector& v) { return fold<count / 2>(v, std::make_integer_sequence<int, count>{}); }
  /// Up to whole vectors.
  static std::int64_t round_up(std::int64_t size) { return (size + count - 1) / count * count; }

 private:
  template <int step, int... i>
  static T fold(const Vector& v, std::integer_sequence<int, i...> all) {
    const Vector sum = v + __builtin_shufflevector(v, v, (i ^ step)...);
    if constexpr (step > 1) return fold<step / 2>(sum, all);
    else return sum[0];
  }
};

/// y[r][0 ... V vectors] = sum over k of w[k][r] x[offsets[k] + ...], for r < R of a block.
template <int R, int V, class T>
void combine_tile(std::int64_t depth, const T* w, const T* x, const std::int64_t* offsets, T* y, std::int64_t ldy) {
  using L = Lanes<T>;
  typename L::Vector sum[R][V] = {};
  for (std::int64_t k = 0; k < depth; ++k) {
    const T* row = x + offsets[k];
    typename L::Vector in[V];
    for (int v = 0; v < V; ++v) in[v] = L::load(row + v * L::count);
    for (int r = 0; r < R; ++r)
      for (int v = 0; v < V; ++v) sum[r][v] += w[k * block + r] * in[v];
  }
  for (int r = 0; r < R; ++r)
    for (int v = 0; v < V; ++v) L::store(sum[r][v], y + r * ldy + v * L::count);
}

/// For the first R rows of a block, `length` entries, up to whole vectors of which x and y have room.
template <int R, class T>
void combine(std::int64_t length, std::int64_t depth, const T* w, const T* x, const std::int64_t* offsets, T* y, std::int64_t ldy) {
  constexpr std::int64_t lanes = Lanes<T>::count;
  std::int64_t t = 0;
  for (; t + (across - 1) * lanes < length; t += across * lanes) combine_tile<R, across>(depth, w, x + t, offsets, y + t, ldy);
  for (; t < length; t += lanes) combine_tile<R, 1>(depth, w, x + t, offsets, y + t, ldy);
}

/// dw[r][c] += sum over t of dy[r][t] x[offsets[c] + t]; `length` is whole vectors.
template <int R, int C, class T>
void correlate_tile(std::int64_t length, const T* dy, std::int64_t ldy, const T* x, const std::int64_t* offsets, T* dw, std::int64_t ldw) {
  using L = Lanes<T>;
  typename L::Vector sum[R][C] = {};
  for (std::int64_t t = 0; t < length; t += L::count) {
    typename L::Vector in[C];
    for (int c = 0; c < C; ++c) in[c] = L::load(x + offsets[c] + t);
    for (int r = 0; r < R; ++r) {
      const typename L::Vector d = L::load(dy + r * ldy + t);
      for (int c = 0; c < C; ++c) sum[r][c] += d * in[c];
    }
  }
  for (int r = 0; r < R; ++r)
    for (int c = 0; c < C; ++c) dw[r * ldw + c] += L::sum(sum[r][c]);
}

template <int R, class T>
void correlate(std::int64_t length, const T* dy, std::int64_t ldy, const T* x, const std::int64_t* offsets, std::int64_t depth, T* dw) {
  std::int64_t k = 0;
  for (; k + taps <= depth; k += taps) correlate_tile<R, taps>(length, dy, ldy, x, offsets + k, dw + k, depth);
  for (; k < depth; ++k) correlate_tile<R, 1>(length, dy, ldy, x, offsets + k, dw + k, depth);
}

}  // namespace

template <class T>
DirectConvolution<T>::DirectConvolution(const Sliding& at, std::int64_t out, const T* w, Of of)
    : at_(at), channels_(at.channels), height_(at.height), width_(at.width), out_(out), out_height_(at.out_height), out_width_(at.out_width),
      padding_{at.padding[0], at.padding[1]} {
  const bool turned = of == Of::input_gradient;
  if (turned) {
    std::swap(channels_, out_), std::swap(height_, out_height_), std::swap(width_, out_width_);
    for (int axis : {0, 1}) padding_[axis] = at.dilation[axis] * ((axis ? at.columns : at.rows) - 1) - at.padding[axis];
    scattered_ = (out_height_ - 1) * (width_ + 2 * padding_[1]) + out_width_ > 2 * at.out_size();
    if (scattered_) padding_[0] = padding_[1] = 0;
  }
  framed_height_ = height_ + 2 * padding_[0], framed_width_ = width_ + 2 * padding_[1];
  length_ = scattered_ ? at.out_size() : (out_height_ - 1) * framed_width_ + out_width_;
  if (scattered_)
    for (std::int64_t o = 0; o < out; ++o) offsets_.push_back(o * length_);
  else
    for (std::int64_t c = 0; c < channels_; ++c)
      for (std::int64_t r = 0; r < at.rows; ++r)
        for (std::int64_t s = 0; s < at.columns; ++s)
          offsets_.push_back((c * framed_height_ + r * at.dilation[0]) * framed_width_ + s * at.dilation[1]);
  const std::int64_t window = at.window(), depth = at.channels * window;
  if (of == Of::value) pack(out, [=](std::int64_t o, std::int64_t k) { return w[o * depth + k]; });
  else if (scattered_) pack(depth, [=](std::int64_t row, std::int64_t o) { return w[o * depth + row]; });
  else if (turned) pack(out_, [=](std::int64_t c, std::int64_t k) { return w[k / window * depth + c * window + window - 1 - k % window]; });
}

/// weights_ of `rows` rows, in blocks.
template <class T>
template <class Entry>
void DirectConvolution<T>::pack(std::int64_t rows, const Entry& entry) {
  const auto depth = static_cast<std::int64_t>(offsets_.size());
  weights_.resize(static_cast<std::size_t>((rows + block - 1) / block * block * depth));
  for (std::int64_t row = 0; row < rows; ++row)
    for (std::int64_t k = 0; k < depth; ++k) weights_[static_cast<std::size_t>((row / block * depth + k) * block + row % block)] = entry(row, k);
}

/// And room to read whole tiles beyond it.
template <class T>
std::int64_t DirectConvolution<T>::frame_size() const {
  return channels_ * framed_height_ * framed_width_ + (across + 1) * Lanes<T>::count;
}

template <class T>
std::int64_t DirectConvolution<T>::memory_size() const {
  return frame_size() + std::max<std::int64_t>(block, out_) * (Lanes<T>::round_up(length_) + across * Lanes<T>::count);
}

/// x among zeros; where the padding is negative, less of it.
template <class T>
void DirectConvolution<T>::frame(const T* x, T* framed) const {
  std::fill(framed, framed + frame_size(), T(0));
  const std::int64_t skip = std::max<std::int64_t>(0, -padding_[1]), left = std::max<std::int64_t>(0, padding_[1]);
  const std::int64_t count = std::min(width_ - skip, framed_width_ - left);
  for (std::int64_t c = 0; c < channels_ && count > 0; ++c)
    for (std::int64_t i = std::max<std::int64_t>(0, -padding_[0]); i < height_ && i + padding_[0] < framed_height_; ++i)
      std::copy_n(x + (c * height_ + i) * width_ + skip, count, framed + (c * framed_height_ + i + padding_[0]) * framed_width_ + left);
}

/// dx from dy. Row (c, r, s) of the products is the share of dx[c] that came by entry (r, s) of the window.
template <class T>
void DirectConvolution<T>::scatter(const T* dy, T* memory, T* dx) const {
  const auto depth = static_cast<std::int64_t>(offsets_.size());
  const std::int64_t ld = Lanes<T>::round_up(length_) + across * Lanes<T>::count, all = out_ * at_.window();
  T* rows = memory + frame_size();  // [block, ld]
  frame(dy, memory);
  std::fill(dx, dx + out_ * at_.in_size(), T(0));
  for (std::int64_t first = 0; first < all; first += block) {
    combine<block>(length_, depth, weights_.data() + first * depth, memory, offsets_.data(), rows, ld);
    for (std::int64_t row = first; row < std::min(first + block, all); ++row) {
      const std::int64_t c = row / at_.window(), r = row / at_.columns % at_.rows, s = row % at_.columns;
      const std::int64_t top = r * at_.dilation[0] - at_.padding[0], left = s * at_.dilation[1] - at_.padding[1];
      const std::int64_t begin = std::max<std::int64_t>(0, -left), end = std::min(width_, at_.width - left);
      for (std::int64_t i = std::max<std::int64_t>(0, -top); i < std::min(height_, at_.height - top); ++i) {
        const T* from = rows + (row - first) * ld + i * width_;
        T* to = dx + (c * at_.height + top + i) * at_.width + left;
        for (std::int64_t j = begin; j < end; ++j) to[j] += from[j];
      }
    }
  }
}

template <class T>
void DirectConvolution<T>::run(const T* x, const T* bias, T* memory, T* y) const {
  if (scattered_) return scatter(x, memory, y);
  const auto depth = static_cast<std::int64_t>(offsets_.size());
  const std::int64_t ld = Lanes<T>::round_up(length_) + across * Lanes<T>::count;
  T* rows = memory + frame_size();  // [block, ld], with the frame's gaps in them
  frame(x, memory);
  for (std::int64_t o = 0; o < out_; o += block) {
    const T* w = weights_.data() + o * depth;
    const std::int64_t count = std::min<std::int64_t>(block, out_ - o);
    if (count > block / 2) combine<block>(length_, depth, w, memory, offsets_.data(), rows, ld);
    else if (count > 1) combine<block / 2>(length_, depth, w, memory, offsets_.data(), rows, ld);
    else combine<1>(length_, depth, w, memory, offsets_.data(), rows, ld);
    for (std::int64_t r = 0; r < count; ++r)
      for (std::int64_t i = 0; i < out_height_; ++i) {
        const T *from = rows + r * ld + i * framed_width_, shift = bias ? bias[o + r] : T(0);
        T* to = y + ((o + r) * out_height_ + i) * out_width_;
        for (std::int64_t j = 0; j < out_width_; ++j) to[j] = from[j] + shift;
      }
  }
}

template <class T>
void DirectConvolution<T>::add_weight_gradient(const T* x, const T* dy, T* memory, T* dw) const {
  const auto depth = static_cast<std::int64_t>(offsets_.size());
  const std::int64_t length = Lanes<T>::round_up(length_), ld = length + across * Lanes<T>::count;
  T* rows = memory + frame_size();  // [out, ld]: dy, and zeros in the gaps
  frame(x, memory);
  for (std::int64_t o = 0; o < out_; ++o)
    for (std::int64_t i = 0; i < out_height_; ++i) {
      T* const gap = std::copy_n(dy + (o * out_height_ + i) * out_width_, out_width_, rows + o * ld + i * framed_width_);
      std::fill(gap, rows + o * ld + (i + 1 < out_height_ ? (i + 1) * framed_width_ : ld), T(0));
    }
  std::int64_t o = 0;
  for (; o + correlated <= out_; o += correlated) correlate<correlated>(length, rows + o * ld, ld, memory, offsets_.data(), depth, dw + o * depth);
  for (; o + 2 <= out_; o += 2) correlate<2>(length, rows + o * ld, ld, memory, offsets_.data(), depth, dw + o * depth);
  for (; o < out_; ++o) correlate<1>(length, rows + o * ld, ld, memory, offsets_.data(), depth, dw + o * depth);
}

template class DirectConvolution<float>;
template class DirectConvolution<double>;

}  // namespace optnet
