/* The last convolution of a network, of every voxel by itself and to few classes, on processors that multiply bf16, and its gradients: those
   of weights and map in one pass (nets/_last.py).

   Maps lie as (voxels, channels) in bf16, those of many channels in blocks of 16. What is added up is in single precision. */
#include "halves.h"
#include "parallel.h"
#include <stdlib.h>

enum { CHUNK = 256, GROUPS = 16 }; /* voxels at once; shares with sums of their own */

typedef struct {
    const uint16_t *x, *grad;
    const float *weights;
    uint16_t *to;
    float *sums; /* for each group: (few, in) and (few) */
    int64_t voxels, in, few, groups;
} Map;

/* 16 channels, from number `at`, of some voxels, whose gradients are `grad` (count, few). */
INLINE void block(const Map *map, const float *grad, int64_t first, int64_t count, int64_t at, float *sums, int few) {
    const uint16_t *x = map->x + first * map->in + at;
    uint16_t *to = map->to ? map->to + first * map->in + at : 0;
    Floats learned[8], weights[8];
    float total[8] = {0}, *bias = sums + few * map->in;
#pragma GCC unroll 8
    for (int k = 0; k < few; k++) {
        memcpy(&learned[k], sums + k * map->in + at, sizeof learned[k]);
        memcpy(&weights[k], map->weights + k * map->in + at, sizeof weights[k]);
    }
    for (int64_t t = 0; t < count; t++, x += map->in, grad += few) {
        Floats value = widened(x), back = weights[0] * grad[0];
#pragma GCC unroll 8
        for (int k = 0; k < few; k++) {
            learned[k] += value * grad[k];
            if (k) back += weights[k] * grad[k];
            total[k] += grad[k];
        }
        if (to) narrowed(to + t * map->in, back);
    }
#pragma GCC unroll 8
    for (int k = 0; k < few; k++) {
        memcpy(sums + k * map->in + at, &learned[k], sizeof learned[k]);
        if (!at) bias[k] += total[k];
    }
}

/* The same for 1 ... 8 classes. */
static void blocks(const Map *map, const float *grad, int64_t first, int64_t count, int64_t at, float *sums) {
    switch (map->few) {
#define CASE(n) case n: block(map, grad, first, count, at, sums, n); break;
        CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6) CASE(7) CASE(8)
#undef CASE
    }
}

static void chunk(const Map *map, int64_t first, int64_t count, float *sums) {
    float grad[CHUNK * 8];
    const uint16_t *from = map->grad + first * map->few;
    for (int64_t n = 0; n < count * map->few; n++) grad[n] = single(from[n]);
    for (int64_t at = 0; at < map->in; at += WIDTH) blocks(map, grad, first, count, at, sums);
}

static void share(void *of, int64_t first, int64_t end) {
    const Map *map = of;
    int64_t chunks = (map->voxels + CHUNK - 1) / CHUNK;
    for (int64_t group = first; group < end; group++)
        for (int64_t k = chunks * group / map->groups; k < chunks * (group + 1) / map->groups; k++) {
            int64_t from = k * CHUNK, count = from + CHUNK < map->voxels ? CHUNK : map->voxels - from;
            chunk(map, from, count, map->sums + group * map->few * (map->in + 1));
        }
}

/* From `x` (voxels, in) and the gradients `grad` (voxels, few): in `sums` those of the weights (few, in) and of the bias (few); `to`
   (voxels, in), or none, is that of `x` by the `weights` (few, in). At most 8 are few. `done` is 0 where there was no memory. */
void last_gradient(const uint16_t *x, const float *weights, const uint16_t *grad, uint16_t *to, float *sums, int64_t voxels, int64_t in,
                   int64_t few, int64_t threads, int64_t *done) {
    Map map = {.x = x, .weights = weights, .grad = grad, .to = to, .voxels = voxels, .in = in, .few = few};
    int64_t chunks = (voxels + CHUNK - 1) / CHUNK, size = few * (in + 1);
    map.groups = chunks < GROUPS ? chunks : GROUPS; /* by the shape, never by the threads */
    map.sums = calloc(map.groups * size, sizeof(float));
    *done = map.sums != 0;
    if (!map.sums) return;
    in_shares(share, &map, map.groups, threads);
    memcpy(sums, map.sums, size * sizeof *sums);
    for (int64_t group = 1; group < map.groups; group++)
        for (int64_t n = 0; n < size; n++) sums[n] += map.sums[group * size + n];
    free(map.sums);
}

#if defined(__AVX512BF16__) && defined(__AVX512BW__) && defined(__AVX512VL__)
enum { PAIRS = 8, MOST = 8, DEEPEST = 512 }; /* of 16 channels; classes at once; channels of the map */

typedef struct {
    const uint16_t *x, *weights;
    const float *bias;
    uint16_t *to;
    int64_t voxels, in, few;
} Voxels;

/* 16 channels of 16 voxels, `in` apart, as 8 registers of a pair of each voxel. */
static inline void in_pairs(const uint16_t *x, int64_t in, __m512i *pairs) {
    const __m512i first = _mm512_set_epi64(13, 12, 5, 4, 9, 8, 1, 0), second = _mm512_set_epi64(15, 14, 7, 6, 11, 10, 3, 2);
    __m512i rows[PAIRS], twos[PAIRS], fours[PAIRS];
    for (int v = 0; v < PAIRS; v++)
        rows[v] = _mm512_inserti64x4(_mm512_castsi256_si512(_mm256_loadu_si256((const __m256i *)(x + v * in))),
                                     _mm256_loadu_si256((const __m256i *)(x + (v + PAIRS) * in)), 1);
    for (int v = 0; v < PAIRS; v += 2) {
        twos[v] = _mm512_unpacklo_epi32(rows[v], rows[v + 1]);
        twos[v + 1] = _mm512_unpackhi_epi32(rows[v], rows[v + 1]);
    }
    for (int v = 0; v < PAIRS; v += 4)
        for (int k = 0; k < 2; k++) {
            fours[v + 2 * k] = _mm512_unpacklo_epi64(twos[v + k], twos[v + 2 + k]);
            fours[v + 2 * k + 1] = _mm512_unpackhi_epi64(twos[v + k], twos[v + 2 + k]);
        }
    for (int k = 0; k < 4; k++) {
        pairs[k] = _mm512_permutex2var_epi64(fours[k], first, fours[k + 4]);
        pairs[k + 4] = _mm512_permutex2var_epi64(fours[k], second, fours[k + 4]);
    }
}

/* Classes from number `class` on of 16 voxels (in / 2, 16, 2), of which `count` are there. */
INLINE void some_classes(const Voxels *of, const __m512i *pairs, int64_t class, uint16_t *to, int64_t count, int few) {
    __m512 sums[MOST];
    const uint16_t *weights = of->weights + class * of->in;
#pragma GCC unroll 8
    for (int k = 0; k < few; k++) sums[k] = _mm512_set1_ps(of->bias ? of->bias[class + k] : 0);
    for (int64_t p = 0; p < of->in / 2; p++)
#pragma GCC unroll 8
        for (int k = 0; k < few; k++) {
            int both;
            memcpy(&both, weights + k * of->in + 2 * p, sizeof both);
            sums[k] = _mm512_dpbf16_ps(sums[k], (__m512bh)pairs[p], (__m512bh)_mm512_set1_epi32(both));
        }
#pragma GCC unroll 8
    for (int k = 0; k < few; k++)
        _mm256_mask_storeu_epi16(to + k * of->voxels, (__mmask16)((1u << count) - 1), (__m256i)_mm512_cvtneps_pbh(sums[k]));
}

/* The same for all classes, and 1 ... 16 voxels at `x`. */
static void classes_of(const Voxels *of, const uint16_t *x, uint16_t *to, int64_t count) {
    __m512i pairs[DEEPEST / 2];
    for (int64_t at = 0; at < of->in; at += 2 * PAIRS) in_pairs(x + at, of->in, pairs + at / 2);
    for (int64_t class = 0; class < of->few; class += MOST) {
        uint16_t *from = to + class * of->voxels;
        switch (of->few - class) {
#define CASE(n) case n: some_classes(of, pairs, class, from, count, n); break;
            CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6) CASE(7)
#undef CASE
        default: some_classes(of, pairs, class, from, count, MOST);
        }
    }
}

static void share_forward(void *given, int64_t first, int64_t end) {
    const Voxels *of = given;
    int64_t chunks = (of->voxels + CHUNK - 1) / CHUNK;
    uint16_t rest[2 * PAIRS * DEEPEST];
    for (int64_t k = first; k < end; k++) { /* chunks of all samples */
        int64_t from = k % chunks * CHUNK, stop = from + CHUNK < of->voxels ? from + CHUNK : of->voxels;
        const uint16_t *x = of->x + k / chunks * of->voxels * of->in;
        uint16_t *to = of->to + k / chunks * of->voxels * of->few;
        for (; from + 2 * PAIRS <= stop; from += 2 * PAIRS) classes_of(of, x + from * of->in, to + from, 2 * PAIRS);
        if (from == stop) continue;
        memset(rest, 0, sizeof rest);
        memcpy(rest, x + from * of->in, (stop - from) * of->in * sizeof *rest);
        classes_of(of, rest, to + from, stop - from);
    }
}

/* The convolution `to` (batch, few, voxels) of `x` (batch, voxels, in) by `weights` (few, in), all in bf16, and a bias in float32 or none.
   Channels are in blocks of 16, 512 at the most. */
void last_forward(const uint16_t *x, const uint16_t *weights, const float *bias, uint16_t *to, int64_t batch, int64_t voxels, int64_t in,
                  int64_t few, int64_t threads) {
    Voxels of = {x, weights, bias, to, voxels, in, few};
    in_shares(share_forward, &of, batch * ((voxels + CHUNK - 1) / CHUNK), threads);
}
#endif
