/* The first convolution of a network, of an image of few channels, on processors that multiply bf16 (nets/_first.py).

   The image is kept channel by channel in bf16 with a border of zeros: (B, C, D + 2, H + 2, W + 4), or D without a border where the kernel
   sees one plane. Products are of pairs: going forward of two rows that the kernel sees, so that a register holds what 16 channels of the
   result get from them; for the gradient of the weights of two neighbouring voxels. */
#if defined(__AVX512BF16__) && defined(__AVX512BW__) && defined(__AVX512VL__)
#include "direct.h"
#include "parallel.h"
#include <stdlib.h>

enum { BORDER = 4, GROUPS = 16, SEEN = 27, SUMS = SEEN + 1 }; /* zeros in a row; shares with sums of their own; places of a kernel */
enum { FEW = 16 }; /* voxels at once: of more than 18 what three places share leaves the registers */

typedef struct {
    const void *from;
    const float *bias;
    const uint16_t *weights, *grad;
    uint16_t *to;
    float *sums;
    int64_t strides[5], channels, batch, depth, height, width, taps, made; /* made in blocks of 16 */
    int64_t row, plane, whole, groups, pairs; /* values of the kept image from row to row, plane to plane, channel to channel */
    int32_t lacking;                          /* whether there was no memory: set by any thread */
} Map;

static Map map_of(const int64_t *extent) {
    Map map = {.batch = extent[0], .channels = extent[1], .depth = extent[2], .height = extent[3], .width = extent[4], .taps = extent[5],
               .made = extent[6] / LANES, .row = extent[4] + BORDER};
    map.plane = map.row * (map.height + 2);
    map.whole = map.plane * (map.depth + map.taps - 1);
    map.pairs = (map.channels * map.taps * 3 + 1) / 2;
    return map;
}

static inline uint16_t half(float value) {
    return (uint16_t)_mm_extract_epi16((__m128i)_mm_cvtneps_pbh(_mm_set_ss(value)), 0);
}

/* One row of the image. */
static void keep_row(const float *from, int64_t apart, int64_t width, uint16_t *to) {
    int64_t x = 0;
    for (; apart == 1 && x + LANES <= width; x += LANES)
        _mm256_storeu_si256((__m256i *)(to + x), (__m256i)_mm512_cvtneps_pbh(_mm512_loadu_ps(from + x)));
    for (; x < width; x++) to[x] = half(from[x * apart]);
}

static void share_keep(void *of, int64_t first, int64_t end) {
    Map *map = of;
    int64_t planes = map->depth + map->taps - 1;
    for (int64_t k = first; k < end; k++) { /* planes of all channels of all samples */
        int64_t z = k % planes - map->taps / 2, channel = k / planes % map->channels, sample = k / planes / map->channels;
        uint16_t *to = map->to + k * map->plane;
        memset(to, 0, map->plane * sizeof *to);
        if (z < 0 || z >= map->depth) continue;
        const float *from = (const float *)map->from + sample * map->strides[0] + channel * map->strides[1] + z * map->strides[2];
        for (int64_t y = 0; y < map->height; y++)
            keep_row(from + y * map->strides[3], map->strides[4], map->width, to + (y + 1) * map->row + 1);
    }
}

/* The image `x` (B, C, D, H, W), float32, `strides` apart, as the others take it; with 64 values more behind it, which are zeros.
   `extent`: batch, channels, depth, height, width, planes that the kernel sees (1 or 3), channels of the result. */
void first_keep(const float *x, const int64_t *strides, uint16_t *to, const int64_t *extent, int64_t threads) {
    Map map = map_of(extent);
    map.from = x, map.to = to;
    memcpy(map.strides, strides, sizeof map.strides);
    in_shares(share_keep, &map, map.batch * map.channels * (map.depth + map.taps - 1), threads);
    memset(to + map.batch * map.channels * map.whole, 0, 64 * sizeof *to);
}

/* Weights (made, C, taps, 3, 3), float32, `strides` apart, as (made / 16, pairs of rows, 3, 16, 2) in bf16; rows are counted through channels
   and planes, and the last may lack its other one. */
void first_weights(const float *weights, const int64_t *strides, uint16_t *to, const int64_t *extent) {
    Map map = map_of(extent);
    int64_t rows = map.channels * map.taps * 3;
    for (int64_t k = 0; k < map.made; k++)
        for (int64_t n = 0; n < map.pairs * 6; n++) {
            int64_t row = n / 6 * 2 + n % 2, c = row / 3 / map.taps, a = row / 3 % map.taps, b = row % 3, x = n / 2 % 3;
            for (int64_t lane = 0; lane < LANES; lane++) {
                const float *from = weights + (k * LANES + lane) * strides[0] + c * strides[1] + a * strides[2] + b * strides[3] + x * strides[4];
                to[((k * map.pairs * 3 + n / 2) * LANES + lane) * 2 + n % 2] = row < rows ? half(*from) : 0;
            }
        }
}

/* 16 channels of `count` voxels in a row by all pairs of rows (pairs, apart, 2) at `v`. */
static inline __attribute__((always_inline)) void some(const uint16_t *v, int64_t apart, const uint16_t *u, int64_t pairs, __m512 bias,
                                                       uint16_t *to, int64_t step, int count) {
    __m512 sums[FEW];
#pragma GCC unroll 16
    for (int t = 0; t < count; t++) sums[t] = bias;
    for (int64_t p = 0; p < pairs; p++, v += 2 * apart)
#pragma GCC unroll 3
        for (int x = 0; x < 3; x++, u += 2 * LANES) {
            __m512bh weights = (__m512bh)_mm512_load_si512(u);
#pragma GCC unroll 16
            for (int t = 0; t < count; t++) sums[t] = _mm512_dpbf16_ps(sums[t], weights, everywhere(v + 2 * (t + x)));
        }
#pragma GCC unroll 16
    for (int t = 0; t < count; t++) _mm256_storeu_si256((__m256i *)(to + t * step), (__m256i)_mm512_cvtneps_pbh(sums[t]));
}

static void voxels(const uint16_t *v, int64_t apart, const uint16_t *u, int64_t pairs, __m512 bias, uint16_t *to, int64_t step, int64_t count) {
    switch (count) {
#define CASE(n) case n: some(v, apart, u, pairs, bias, to, step, n); break;
        CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6) CASE(7) CASE(8) CASE(9) CASE(10) CASE(11) CASE(12) CASE(13) CASE(14)
        CASE(15) CASE(16)
#undef CASE
    }
}

/* A row of the kept image at row number `n` of those that a voxel sees. */
static const uint16_t *row_of(const Map *map, const uint16_t *first, int64_t n) {
    return first + n / 3 / map->taps * map->whole + n / 3 % map->taps * map->plane + n % 3 * map->row;
}

/* Rows that the voxels of a row see, two in turn: (pairs, apart, 2). */
static void in_pairs(const Map *map, const uint16_t *first, int64_t apart, const uint16_t *none, uint16_t *to) {
    for (int64_t p = 0; p < map->pairs; p++) {
        const uint16_t *one = row_of(map, first, 2 * p);
        const uint16_t *two = 2 * p + 1 < map->channels * map->taps * 3 ? row_of(map, first, 2 * p + 1) : none;
        for (int64_t x = 0; x < apart; x += LANES, to += 2 * LANES) {
            __m256i a = _mm256_loadu_si256((const __m256i *)(one + x)), b = _mm256_loadu_si256((const __m256i *)(two + x));
            _mm512_store_si512(to, in_turn(a, b));
        }
    }
}

static void share_forward(void *of, int64_t first, int64_t end) {
    Map *map = of;
    int64_t apart = (map->width + 2 + LANES - 1) / LANES * LANES, across = (map->width + FEW - 1) / FEW, step = map->made * LANES;
    uint16_t *pairs = aligned_alloc(64, map->pairs * apart * 2 * sizeof *pairs), *none = calloc(apart, sizeof *none);
    if (!pairs || !none) __atomic_store_n(&map->lacking, 1, __ATOMIC_RELAXED);
    for (int64_t k = first; k < end && pairs && none; k++) { /* rows */
        int64_t sample = k / map->height / map->depth, z = k / map->height % map->depth, y = k % map->height;
        const uint16_t *from = (const uint16_t *)map->from + sample * map->channels * map->whole + z * map->plane + y * map->row;
        in_pairs(map, from, apart, none, pairs);
        for (int64_t tile = 0; tile < across; tile++)
            for (int64_t j = 0; j < map->made; j++) {
                int64_t left = map->width * tile / across, count = map->width * (tile + 1) / across - left;
                __m512 bias = map->bias ? _mm512_loadu_ps(map->bias + j * LANES) : _mm512_setzero_ps();
                uint16_t *to = map->to + (k * map->width + left) * step + j * LANES;
                voxels(pairs + 2 * left, apart, map->weights + j * map->pairs * 3 * 2 * LANES, map->pairs, bias, to, step, count);
            }
    }
    free(pairs);
    free(none);
}

/* The convolution `to` (B, D, H, W, made) of an image that was kept, by weights as `first_weights` gives them, and a bias or none. `done` is
   0 where there was no memory. */
void first_forward(const uint16_t *kept, const uint16_t *weights, const float *bias, uint16_t *to, const int64_t *extent, int64_t threads,
                   int64_t *done) {
    Map map = map_of(extent);
    map.from = kept, map.weights = weights, map.bias = bias, map.to = to;
    in_shares(share_forward, &map, map.batch * map.depth * map.height, threads);
    *done = !map.lacking;
}

/* Adds to sums (27, 16), and their own to the last (16), what the gradients `grad` of a row of voxels, `step` apart, give with the rows of one
   channel that they see. */
static inline __attribute__((always_inline)) void row(const Map *map, __m512 *sums, const uint16_t *from, const uint16_t *grad, int taps) {
    int64_t step = map->made * LANES;
    const __m512bh one = (__m512bh)_mm512_set1_epi16(0x3f80);
    for (int64_t x = 0; x < map->width; x += 2, from += 2, grad += 2 * step) {
        __m256i next = x + 1 < map->width ? _mm256_loadu_si256((const __m256i *)(grad + step)) : _mm256_setzero_si256();
        __m512bh both = (__m512bh)in_turn(_mm256_loadu_si256((const __m256i *)grad), next);
#pragma GCC unroll 3
        for (int a = 0; a < taps; a++)
#pragma GCC unroll 3
            for (int b = 0; b < 3; b++)
#pragma GCC unroll 3
                for (int c = 0; c < 3; c++) {
                    __m512 *sum = sums + (a * 3 + b) * 3 + c;
                    *sum = _mm512_dpbf16_ps(*sum, both, everywhere(from + a * map->plane + b * map->row + c));
                }
        sums[SEEN] = _mm512_dpbf16_ps(sums[SEEN], both, one);
    }
}

/* The same for a plane, from and to memory. */
static inline __attribute__((always_inline)) void plane(const Map *map, float *to, const uint16_t *from, const uint16_t *grad, int taps) {
    __m512 sums[SUMS];
#pragma GCC unroll 28
    for (int n = 0; n < SUMS; n++) sums[n] = _mm512_loadu_ps(to + n * LANES);
    for (int64_t y = 0; y < map->height; y++) row(map, sums, from + y * map->row, grad + y * map->width * map->made * LANES, taps);
#pragma GCC unroll 28
    for (int n = 0; n < SUMS; n++) _mm512_storeu_ps(to + n * LANES, sums[n]);
}

static void three_planes(const Map *map, float *to, const uint16_t *from, const uint16_t *grad) { plane(map, to, from, grad, 3); }
static void one_plane(const Map *map, float *to, const uint16_t *from, const uint16_t *grad) { plane(map, to, from, grad, 1); }

static void share_gradient(void *of, int64_t first, int64_t end) {
    Map *map = of;
    int64_t planes = map->batch * map->depth, size = map->made * map->channels * SUMS * LANES;
    for (int64_t group = first; group < end; group++)
        for (int64_t k = planes * group / map->groups; k < planes * (group + 1) / map->groups; k++)
            for (int64_t j = 0; j < map->made; j++)
                for (int64_t c = 0; c < map->channels; c++) {
                    const uint16_t *from = (const uint16_t *)map->from + (k / map->depth * map->channels + c) * map->whole + k % map->depth * map->plane;
                    const uint16_t *grad = map->grad + k * map->height * map->width * map->made * LANES + j * LANES;
                    float *to = map->sums + group * size + (j * map->channels + c) * SUMS * LANES;
                    (map->taps == 3 ? three_planes : one_plane)(map, to, from, grad);
                }
}

/* The gradients of the weights (made, C, taps, 3, 3), float32, `strides` apart, and of the bias (made), from an image that was kept and the
   gradients `grad` (B, D, H, W, made). `done` is 0 where there was no memory. */
void first_gradient(const uint16_t *kept, const uint16_t *grad, float *weights, const int64_t *strides, float *bias, const int64_t *extent,
                    int64_t threads, int64_t *done) {
    Map map = map_of(extent);
    int64_t planes = map.batch * map.depth, size = map.made * map.channels * SUMS * LANES;
    map.from = kept, map.grad = grad, map.groups = planes < GROUPS ? planes : GROUPS; /* by the shape, never by the threads */
    map.sums = calloc(map.groups * size, sizeof(float));
    *done = map.sums != 0;
    if (!map.sums) return;
    in_shares(share_gradient, &map, map.groups, threads);
    for (int64_t group = 1; group < map.groups; group++)
        for (int64_t n = 0; n < size; n++) map.sums[n] += map.sums[group * size + n];
    for (int64_t k = 0; k < map.made * LANES; k++)
        for (int64_t c = 0; c < map.channels; c++) {
            const float *from = map.sums + (k / LANES * map.channels + c) * SUMS * LANES + k % LANES;
            for (int64_t n = 0; n < map.taps * 9; n++)
                weights[k * strides[0] + c * strides[1] + n / 9 * strides[2] + n / 3 % 3 * strides[3] + n % 3 * strides[4]] = from[n * LANES];
            if (c == 0) bias[k] = from[SEEN * LANES];
        }
    free(map.sums);
}
#endif
