/* Numbers of bfloat16, as many at a time as a register holds in single precision: the upper halves of numbers in single precision.
   For all whose maps are of such: normalise.h, soft_counts.c, pointwise.c. Where SINGLE is defined, maps are in single precision
   (direct_full.h always). */
#ifndef HALVES_H
#define HALVES_H
#include <stdint.h>
#include <string.h>
#ifdef __AVX512F__
#include <immintrin.h>
#endif

#pragma GCC diagnostic ignored "-Wpsabi" /* how vectors are handed over does not matter: all of this is inlined */

#if defined(__AVX512F__)
enum { WIDTH = 16 };
#elif defined(__AVX2__)
enum { WIDTH = 8 };
#else
enum { WIDTH = 4 };
#endif

typedef float Floats __attribute__((vector_size(WIDTH * 4)));
typedef uint32_t Words __attribute__((vector_size(WIDTH * 4)));
typedef int32_t Signs __attribute__((vector_size(WIDTH * 4)));
typedef uint16_t Halves __attribute__((vector_size(WIDTH * 2)));
#define INLINE static inline __attribute__((always_inline))

INLINE Floats widened(const uint16_t *from) {
#ifdef __AVX512F__
    return (Floats)_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)from)), 16);
#else
    Halves half;
    memcpy(&half, from, sizeof half);
    return (Floats)(__builtin_convertvector(half, Words) << 16);
#endif
}

/* To the nearest, ties to even, in the upper halves; what is not a number stays none. */
INLINE Words rounded(Floats value) {
    Words bits = (Words)value, none = (Words)(value != value);
    return ((bits + 0x7fff + ((bits >> 16) & 1)) & ~none) | (none & 0x7fc00000);
}

INLINE void narrowed(uint16_t *into, Floats value) {
#ifdef __AVX512BF16__
    __m256bh half = _mm512_cvtneps_pbh((__m512)value);
#else
    Halves half = __builtin_convertvector(rounded(value) >> 16, Halves);
#endif
    memcpy(into, &half, sizeof half);
}

/* Twice as many: those at even places, and those at odd ones. */
INLINE void widened_apart(const uint16_t *from, Floats *even, Floats *odd) {
    Words both;
    memcpy(&both, from, sizeof both);
    *even = (Floats)(both << 16);
    *odd = (Floats)(both & 0xffff0000);
}

INLINE void narrowed_together(uint16_t *into, Floats even, Floats odd) {
#ifdef __AVX512BF16__
    const __m512i order = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6, 21, 5, 20, 4, 19, 3,
                                           18, 2, 17, 1, 16, 0);
    _mm512_storeu_si512(into, _mm512_permutexvar_epi16(order, (__m512i)_mm512_cvtne2ps_pbh((__m512)odd, (__m512)even)));
#else
    Words both = (rounded(even) >> 16) | (rounded(odd) & 0xffff0000);
    memcpy(into, &both, sizeof both);
#endif
}

/* `of`, or where `value` is not above 0 `slope` times that. */
INLINE Floats leaky(Floats value, Floats of, float slope) {
#ifdef __AVX512F__
    return (Floats)_mm512_mask_mul_ps((__m512)of, _mm512_cmp_ps_mask((__m512)value, _mm512_setzero_ps(), _CMP_NGT_UQ), (__m512)of,
                                      _mm512_set1_ps(slope));
#else
    Floats less = of * slope;
    Signs above = value > 0;
    return (Floats)(((Signs)of & above) | ((Signs)less & ~above));
#endif
}

#ifdef SINGLE
typedef float Number;

INLINE Floats numbers(const Number *from) {
    Floats value;
    memcpy(&value, from, sizeof value);
    return value;
}

INLINE void put_numbers(Number *into, Floats value) { memcpy(into, &value, sizeof value); }

static inline float single(Number value) { return value; }
#else
typedef uint16_t Number;

INLINE Floats numbers(const Number *from) { return widened(from); }

INLINE void put_numbers(Number *into, Floats value) { narrowed(into, value); }

static inline float single(Number half) {
    uint32_t bits = (uint32_t)half << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}
#endif

#endif
