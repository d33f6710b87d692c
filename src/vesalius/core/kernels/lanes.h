/* Several numbers at a time, in the words of one processor or another: LANES float32 in a register, made of as many float16.
   Without LANES there is none of this, and no kernel that stands on it: sums.c and labels.c. */
#ifndef LANES_H
#define LANES_H
#include <stdint.h>
#include <string.h>

typedef uint16_t Half; /* the bits of a float16 */

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__)
#include <immintrin.h>
enum { LANES = 16 };
#define HAS_LANES 1
typedef __m512 Reals;
typedef __m512i Wholes;

static inline Reals reals(const float *from) { return _mm512_loadu_ps(from); }
static inline void put(float *to, Reals values) { _mm512_storeu_ps(to, values); }
static inline Reals every(float value) { return _mm512_set1_ps(value); }
static inline Wholes all(int32_t value) { return _mm512_set1_epi32(value); }
static inline Wholes wholes(const int32_t *from) { return _mm512_loadu_si512(from); }
static inline Reals widened(const Half *from) { return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)from)); }
static inline Reals taken(Reals of, Wholes places) { return _mm512_permutexvar_ps(places, of); }
static inline Reals mixed(Reals near, Reals way, Reals share) { return _mm512_fmadd_ps(share, way, near); }
static inline Reals less(Reals a, Reals b) { return _mm512_sub_ps(a, b); }
static inline Reals times(Reals a, Reals b) { return _mm512_mul_ps(a, b); }
static inline Reals sum(Reals a, Reals b) { return _mm512_add_ps(a, b); }
static inline Reals larger(Reals a, Reals b) { return _mm512_max_ps(a, b); }

/* Where `value` is above `best` it takes its place, and `number` that of `label`. */
static inline void rival(Reals *best, Wholes *label, Reals value, Wholes number) {
    __mmask16 above = _mm512_cmp_ps_mask(value, *best, _CMP_GT_OQ);
    *best = _mm512_mask_mov_ps(*best, above, value);
    *label = _mm512_mask_mov_epi32(*label, above, number);
}

/* Whether all of `values` lie between -`limit` and `limit`; not a number does not. */
static inline int within(Reals values, float limit) {
    return _mm512_cmp_ps_mask(_mm512_abs_ps(values), _mm512_set1_ps(limit), _CMP_LT_OQ) == 0xFFFF;
}

/* The first `count` of a register; the rest is zeros, and is not read. */
static inline Reals some_reals(const float *from, int64_t count) { return _mm512_maskz_loadu_ps((__mmask16)((1u << count) - 1), from); }

static inline Reals some_widened(const Half *from, int64_t count) {
    return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16((__mmask16)((1u << count) - 1), from));
}

static inline void put_some_halves(Half *to, Reals values, int64_t count) {
    _mm256_mask_storeu_epi16(to, (__mmask16)((1u << count) - 1), _mm512_cvtps_ph(values, _MM_FROUND_TO_NEAREST_INT));
}

static inline void put_halves(Half *to, Reals values) {
    _mm256_storeu_si256((__m256i *)to, _mm512_cvtps_ph(values, _MM_FROUND_TO_NEAREST_INT));
}

/* To the precision of halves. */
static inline Reals rounded(Reals values) { return _mm512_cvtph_ps(_mm512_cvtps_ph(values, _MM_FROUND_TO_NEAREST_INT)); }

static inline void put_bytes(uint8_t *to, Wholes values) { _mm_storeu_si128((__m128i *)to, _mm512_cvtepi32_epi8(values)); }

/* A bit for each of 32 cells: whether the least of four is not above the bound. */
static inline uint32_t reached(const Half *a, const Half *b, const Half *bound, int further) {
    __m512i least = _mm512_min_epu16(_mm512_loadu_si512(a), _mm512_loadu_si512(b));
    if (further) least = _mm512_min_epu16(least, _mm512_min_epu16(_mm512_loadu_si512(a + 1), _mm512_loadu_si512(b + 1)));
    return _mm512_cmple_epu16_mask(least, _mm512_loadu_si512(bound));
}

#elif defined(__AVX2__) && defined(__F16C__) && defined(__FMA__)
#include <immintrin.h>
enum { LANES = 8 };
#define HAS_LANES 1
typedef __m256 Reals;
typedef __m256i Wholes;

static inline Reals reals(const float *from) { return _mm256_loadu_ps(from); }
static inline void put(float *to, Reals values) { _mm256_storeu_ps(to, values); }
static inline Reals every(float value) { return _mm256_set1_ps(value); }
static inline Wholes all(int32_t value) { return _mm256_set1_epi32(value); }
static inline Wholes wholes(const int32_t *from) { return _mm256_loadu_si256((const __m256i *)from); }
static inline Reals widened(const Half *from) { return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)from)); }
static inline Reals taken(Reals of, Wholes places) { return _mm256_permutevar8x32_ps(of, places); }
static inline Reals mixed(Reals near, Reals way, Reals share) { return _mm256_fmadd_ps(share, way, near); }
static inline Reals less(Reals a, Reals b) { return _mm256_sub_ps(a, b); }
static inline Reals times(Reals a, Reals b) { return _mm256_mul_ps(a, b); }
static inline Reals sum(Reals a, Reals b) { return _mm256_add_ps(a, b); }
static inline Reals larger(Reals a, Reals b) { return _mm256_max_ps(a, b); }

static inline void rival(Reals *best, Wholes *label, Reals value, Wholes number) {
    __m256 above = _mm256_cmp_ps(value, *best, _CMP_GT_OQ);
    *best = _mm256_blendv_ps(*best, value, above);
    *label = _mm256_blendv_epi8(*label, number, _mm256_castps_si256(above));
}

static inline int within(Reals values, float limit) {
    Reals size = _mm256_andnot_ps(_mm256_set1_ps(-0.0f), values);
    return _mm256_movemask_ps(_mm256_cmp_ps(size, _mm256_set1_ps(limit), _CMP_LT_OQ)) == 0xFF;
}

static inline Reals some_reals(const float *from, int64_t count) {
    float spare[LANES] = {0};
    memcpy(spare, from, count * sizeof(float));
    return reals(spare);
}

static inline Reals some_widened(const Half *from, int64_t count) {
    Half spare[LANES] = {0};
    memcpy(spare, from, count * sizeof(Half));
    return widened(spare);
}

static inline void put_some_halves(Half *to, Reals values, int64_t count) {
    Half spare[LANES];
    _mm_storeu_si128((__m128i *)spare, _mm256_cvtps_ph(values, _MM_FROUND_TO_NEAREST_INT));
    memcpy(to, spare, count * sizeof(Half));
}

static inline void put_halves(Half *to, Reals values) {
    _mm_storeu_si128((__m128i *)to, _mm256_cvtps_ph(values, _MM_FROUND_TO_NEAREST_INT));
}

static inline Reals rounded(Reals values) { return _mm256_cvtph_ps(_mm256_cvtps_ph(values, _MM_FROUND_TO_NEAREST_INT)); }

static inline void put_bytes(uint8_t *to, Wholes values) {
    __m128i words = _mm_packus_epi32(_mm256_castsi256_si128(values), _mm256_extracti128_si256(values, 1));
    _mm_storel_epi64((__m128i *)to, _mm_packus_epi16(words, words));
}

static inline __m256i sixteen_reached(const Half *a, const Half *b, const Half *bound, int further) {
    __m256i least = _mm256_min_epu16(_mm256_loadu_si256((const __m256i *)a), _mm256_loadu_si256((const __m256i *)b));
    if (further) {
        __m256i next = _mm256_min_epu16(_mm256_loadu_si256((const __m256i *)(a + 1)), _mm256_loadu_si256((const __m256i *)(b + 1)));
        least = _mm256_min_epu16(least, next);
    }
    return _mm256_cmpeq_epi16(_mm256_min_epu16(least, _mm256_loadu_si256((const __m256i *)bound)), least);
}

static inline uint32_t reached(const Half *a, const Half *b, const Half *bound, int further) {
    __m256i bytes = _mm256_packs_epi16(sixteen_reached(a, b, bound, further), sixteen_reached(a + 16, b + 16, bound + 16, further));
    return (uint32_t)_mm256_movemask_epi8(_mm256_permute4x64_epi64(bytes, 0xD8));
}
#endif
#endif
