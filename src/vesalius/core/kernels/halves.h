/* Numbers of bfloat16, 16 at a time: the upper halves of numbers in single precision. */
#ifndef HALVES_H
#define HALVES_H
#include <stdint.h>
#include <string.h>
#ifdef __AVX512F__
#include <immintrin.h>
#endif

enum { WIDTH = 16 };

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

/* To the nearest, ties to even; what is not a number stays none. */
INLINE void narrowed(uint16_t *into, Floats value) {
#ifdef __AVX512BF16__
    __m256bh half = _mm512_cvtneps_pbh((__m512)value);
#else
    Words bits = (Words)value, rounded = bits + 0x7fff + ((bits >> 16) & 1), none = (Words)(value != value);
    Halves half = __builtin_convertvector(((rounded & ~none) | (none & 0x7fc00000)) >> 16, Halves);
#endif
    memcpy(into, &half, sizeof half);
}

INLINE Floats read(const float *from) {
    Floats value;
    memcpy(&value, from, sizeof value);
    return value;
}

static inline float single(uint16_t half) {
    uint32_t bits = (uint32_t)half << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline uint16_t halved(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return value != value ? 0x7fc0 : (uint16_t)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

#endif
