/* Vectors of float32 and int32 with AVX-512 (16 lanes) or AVX2 (8 lanes). One source is compiled for both. */
#pragma once

#include <immintrin.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))
#define OUTPUTS 16 /* outputs of a block of weights */

#ifdef __AVX512VNNI__
#define LANES 16
typedef __m512 floats;
typedef __m512i ints;
#define load _mm512_loadu_ps
#define store _mm512_storeu_ps
#define load_ints(p) _mm512_loadu_si512((const void *)(p))
#define all(x) _mm512_set1_ps(x)
#define all_ints(x) _mm512_set1_epi32(x)
#define no_ints() _mm512_setzero_si512()
#define add _mm512_add_ps
#define subtract _mm512_sub_ps
#define multiply _mm512_mul_ps
#define divide _mm512_div_ps
#define greater _mm512_max_ps
#define lesser _mm512_min_ps
#define fma_of _mm512_fmadd_ps
#define magnitude _mm512_abs_ps
#define add_ints _mm512_add_epi32
#define subtract_ints _mm512_sub_epi32
#define to_floats _mm512_cvtepi32_ps
#define to_ints _mm512_cvtps_epi32
#define exponent_of(n) _mm512_castsi512_ps(_mm512_slli_epi32(add_ints(n, all_ints(127)), 23))
#define sum_of _mm512_reduce_add_ps
#define greatest_of _mm512_reduce_max_ps
#define and_ints _mm512_and_si512
#define high_halves(x) and_ints(_mm512_srli_epi16(x, 4), all_ints(0x0f0f0f0f))
#define from_bfloat16(p) \
  _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(p))), 16))
INLINE void store_bytes(uint8_t *p, ints x) { _mm_storeu_si128((__m128i *)p, _mm512_cvtepi32_epi8(x)); }
/* sum + the products of four unsigned bytes of x with four signed bytes of w, in each lane. */
INLINE ints add_products(ints sum, ints x, ints w) { return _mm512_dpbusd_epi32(sum, x, w); }
/* sum + the products of 8 signed bytes x with small numbers, 0 to 15, in each lane: the first four and the others. */
INLINE ints add_halves(ints sum, ints first, ints others, const uint8_t *x) {
  int32_t four[2];
  memcpy(four, x, 8);
  return _mm512_dpbusd_epi32(_mm512_dpbusd_epi32(sum, first, all_ints(four[0])), others, all_ints(four[1]));
}
/* The sums of four vectors. */
INLINE __m128 four_sums(floats a, floats b, floats c, floats d) {
#define HALF(x) _mm256_add_ps(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps(x, 1))
  __m256 ab = _mm256_hadd_ps(HALF(a), HALF(b)), cd = _mm256_hadd_ps(HALF(c), HALF(d));
#undef HALF
  __m256 abcd = _mm256_hadd_ps(ab, cd);
  return _mm_add_ps(_mm256_castps256_ps128(abcd), _mm256_extractf128_ps(abcd, 1));
}
#else
#define LANES 8
typedef __m256 floats;
typedef __m256i ints;
#define load _mm256_loadu_ps
#define store _mm256_storeu_ps
#define load_ints(p) _mm256_loadu_si256((const __m256i *)(p))
#define all(x) _mm256_set1_ps(x)
#define all_ints(x) _mm256_set1_epi32(x)
#define no_ints() _mm256_setzero_si256()
#define add _mm256_add_ps
#define subtract _mm256_sub_ps
#define multiply _mm256_mul_ps
#define divide _mm256_div_ps
#define greater _mm256_max_ps
#define lesser _mm256_min_ps
#define fma_of _mm256_fmadd_ps
#define magnitude(x) _mm256_andnot_ps(all(-0.0f), x)
#define add_ints _mm256_add_epi32
#define subtract_ints _mm256_sub_epi32
#define to_floats _mm256_cvtepi32_ps
#define to_ints _mm256_cvtps_epi32
#define exponent_of(n) _mm256_castsi256_ps(_mm256_slli_epi32(add_ints(n, all_ints(127)), 23))
#define and_ints _mm256_and_si256
#define high_halves(x) and_ints(_mm256_srli_epi16(x, 4), all_ints(0x0f0f0f0f))
#define from_bfloat16(p) \
  _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)(p))), 16))
INLINE float sum_of(floats x) {
  __m128 y = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
  y = _mm_add_ps(y, _mm_movehl_ps(y, y));
  return _mm_cvtss_f32(_mm_add_ss(y, _mm_shuffle_ps(y, y, 1)));
}
INLINE float greatest_of(floats x) {
  __m128 y = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
  y = _mm_max_ps(y, _mm_movehl_ps(y, y));
  return _mm_cvtss_f32(_mm_max_ss(y, _mm_shuffle_ps(y, y, 1)));
}
INLINE void store_bytes(uint8_t *p, ints x) {
  x = and_ints(x, all_ints(255));
  __m128i y = _mm_packus_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
  _mm_storel_epi64((__m128i *)p, _mm_packus_epi16(y, y));
}
/* AVX2 adds pairs of products of bytes in 16 bits, where they overflow. So even and odd bytes are widened first. */
INLINE ints add_products(ints sum, ints x, ints w) {
  ints even =
      _mm256_madd_epi16(_mm256_and_si256(x, _mm256_set1_epi16(255)), _mm256_srai_epi16(_mm256_slli_epi16(w, 8), 8));
  ints odd = _mm256_madd_epi16(_mm256_srli_epi16(x, 8), _mm256_srai_epi16(w, 8));
  return add_ints(sum, add_ints(even, odd));
}
/* Pairs of products with small numbers do not overflow in 16 bits. */
INLINE ints add_halves(ints sum, ints first, ints others, const uint8_t *x) {
  int32_t four[2];
  memcpy(four, x, 8);
  ints pairs = _mm256_maddubs_epi16(first, all_ints(four[0]));
  pairs = _mm256_add_epi16(pairs, _mm256_maddubs_epi16(others, all_ints(four[1])));
  return add_ints(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}
INLINE __m128 four_sums(floats a, floats b, floats c, floats d) {
  __m256 abcd = _mm256_hadd_ps(_mm256_hadd_ps(a, b), _mm256_hadd_ps(c, d));
  return _mm_add_ps(_mm256_castps256_ps128(abcd), _mm256_extractf128_ps(abcd, 1));
}
#endif

/* e to the power of each lane, with a relative error below 2e-7 (Cephes' polynomial). */
INLINE floats exponential(floats x) {
  x = lesser(greater(x, all(-87.0f)), all(88.0f));
  ints n = to_ints(multiply(x, all(1.44269504f)));
  floats whole = to_floats(n);
  x = fma_of(whole, all(-0.693359375f), x);
  x = fma_of(whole, all(2.12194440e-4f), x);
  floats y = all(1.9875691500e-4f);
  y = fma_of(y, x, all(1.3981999507e-3f));
  y = fma_of(y, x, all(8.3334519073e-3f));
  y = fma_of(y, x, all(4.1665795894e-2f));
  y = fma_of(y, x, all(1.6666665459e-1f));
  y = fma_of(y, x, all(5.0000001201e-1f));
  y = add(fma_of(multiply(y, x), x, x), all(1.0f));
  return multiply(y, exponent_of(n));
}
