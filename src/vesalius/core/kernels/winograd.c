/* Convolutions of kernels of 3 x 3 and 3 x 3 x 3 by Winograd's minimal filtering (Lavin & Gray 2016, arXiv:1509.09308) on processors that
   multiply bf16. Along the last two axes a tile of 2 x 2 outputs is made of 4 x 4 inputs: both are sums of few, and between them 16 products
   take the place of 36. Along the first axis of a volume the kernel is taken as it is (nets/_winograd.py).

   Maps (B, D, H, W, C) in bf16, the channels of a voxel together and in blocks of 16. The tiles of a plane are counted row after row; some
   of them in a row are worked on together, through all planes: what their inputs give is kept for as many planes as the kernel sees. */
#if defined(__AVX512BF16__) && defined(__AVX512BW__) && defined(__AVX512VL__)
#include "parallel.h"
#include "winograd.h"
#include <stdlib.h>

enum { PAIRS = LANES / 2 };

typedef struct {
    Maps x, out;
    const uint16_t *weights;
    const float *bias;
    int64_t depth, height, width, in, made, taps; /* channels in blocks of 16 */
    int64_t across, tiles, blocks;                /* tiles in a row, in a plane; how many shares a plane is worked on in */
    int32_t lacking;                              /* whether there was no memory: set by any thread */
} Map;

static inline void keep(uint16_t *to, __m512 value) { _mm256_store_si256((__m256i *)to, (__m256i)_mm512_cvtneps_pbh(value)); }

/* What `count` tiles from number `first` give, 16 channels of each: (16 points, count, 16), the points `step` apart. */
static void transform(const Plane *plane, int64_t across, int64_t first, int64_t count, int64_t step, uint16_t *to) {
    for (int64_t t = first, end; t < first + count; t = end) {
        end = (t / across + 1) * across < first + count ? (t / across + 1) * across : first + count; /* of the tiles in this row */
        Rows rows = rows_of(plane, t / across * 2 - 1);
        int64_t x = t % across * 2;
        __m512 c[4][4], sums[4];
        column(&rows, x - 1, c[0]);
        column(&rows, x, c[1]);
        for (; t < end; t++, x += 2, to += LANES) {
            column(&rows, x + 1, c[2]);
            column(&rows, x + 2, c[3]);
            for (int k = 0; k < 4; k++) {
                sums_of(c[0][k], c[1][k], c[2][k], c[3][k], sums);
                for (int j = 0; j < 4; j++) keep(to + (4 * k + j) * step, sums[j]);
                c[0][k] = c[2][k], c[1][k] = c[3][k];
            }
        }
    }
}

/* Adds to sums (count, 16) of a point: 16 channels of `count` voxels at `v` by the weights (8 pairs, 16, 2) at `u`. */
static inline __attribute__((always_inline)) void multiply(__m512 *sums, const uint16_t *v, const uint16_t *u, int count) {
#pragma GCC unroll 8
    for (int pair = 0; pair < PAIRS; pair++) {
        __m512bh weights = (__m512bh)_mm512_load_si512(u + pair * 2 * LANES);
#pragma GCC unroll 28
        for (int t = 0; t < count; t++) sums[t] = _mm512_dpbf16_ps(sums[t], weights, everywhere(v + t * LANES + 2 * pair));
    }
}

typedef struct {
    const uint16_t *v[3], *u[3]; /* planes and weights of the point, for each plane that the kernel sees */
    int planes;
    int64_t blocks;
} Point;

static inline __attribute__((always_inline)) void point(const Point *of, float *to, int count) {
    __m512 sums[MOST];
#pragma GCC unroll 28
    for (int t = 0; t < count; t++) sums[t] = _mm512_setzero_ps();
    for (int p = 0; p < of->planes; p++)
        for (int64_t b = 0; b < of->blocks; b++)
            multiply(sums, of->v[p] + b * count * LANES, of->u[p] + b * PAIRS * 2 * LANES, count);
#pragma GCC unroll 28
    for (int t = 0; t < count; t++) _mm512_store_ps(to + t * LANES, sums[t]);
}

/* Products of one point for 1 ... 28 tiles, whose sums stay in registers. */
static void products(const Point *of, float *to, int64_t count) {
    switch (count) {
#define CASE(n) case n: point(of, to, n); break;
        CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6) CASE(7) CASE(8) CASE(9) CASE(10) CASE(11) CASE(12) CASE(13) CASE(14)
        CASE(15) CASE(16) CASE(17) CASE(18) CASE(19) CASE(20) CASE(21) CASE(22) CASE(23) CASE(24) CASE(25) CASE(26) CASE(27) CASE(28)
#undef CASE
    }
}

/* 2 x 2 outputs of each tile from the sums (16 points, count, 16). */
static void untransform(const Map *map, const float *sums, int64_t first, int64_t count, const Plane *out, __m512 bias) {
    for (int64_t t = 0; t < count; t++) {
        int64_t y = 2 * ((first + t) / map->across), x = 2 * ((first + t) % map->across);
        __m512 left[4], right[4];
        for (int k = 0; k < 4; k++) {
            const float *at = sums + (4 * k * count + t) * LANES;
            __m512 a = _mm512_load_ps(at), b = _mm512_load_ps(at + count * LANES);
            __m512 c = _mm512_load_ps(at + 2 * count * LANES), d = _mm512_load_ps(at + 3 * count * LANES);
            left[k] = a + b + c;
            right[k] = b - c - d;
        }
        uint16_t *to = out->x + (y * map->width + x) * out->channels;
        int more = x + 1 < map->width;
        keep(to, left[0] + left[1] + left[2] + bias);
        if (more) keep(to + out->channels, right[0] + right[1] + right[2] + bias);
        if (y + 1 < map->height) {
            to += map->width * out->channels;
            keep(to, left[1] - left[2] - left[3] + bias);
            if (more) keep(to + out->channels, right[1] - right[2] - right[3] + bias);
        }
    }
}

/* One share of the tiles of a sample through all planes. `kept`: (taps, 16 points, blocks, count, 16); `sums`: (16 points, count, 16). */
static void column_of_tiles(const Map *map, int64_t sample, int64_t first, int64_t count, uint16_t *kept, float *sums) {
    int64_t reach = map->taps / 2, size = POINTS * map->in * count * LANES;
    for (int64_t ahead = 0; ahead < map->depth + reach; ahead++) {
        if (ahead < map->depth)
            for (int64_t b = 0; b < map->in; b++) {
                Plane plane = plane_of(&map->x, sample * map->depth + ahead, b, map->height, map->width);
                transform(&plane, map->across, first, count, map->in * count * LANES, kept + ahead % map->taps * size + b * count * LANES);
            }
        int64_t z = ahead - reach;
        if (z < 0) continue;
        for (int64_t k = 0; k < map->made; k++) {
            for (int64_t p = 0; p < POINTS; p++) {
                Point of = {.blocks = map->in};
                for (int64_t tap = 0; tap < map->taps; tap++) {
                    int64_t from = z + tap - reach;
                    if (from < 0 || from >= map->depth) continue;
                    of.v[of.planes] = kept + from % map->taps * size + p * map->in * count * LANES;
                    of.u[of.planes++] = map->weights + ((k * POINTS + p) * map->taps + tap) * map->in * LANES * LANES;
                }
                products(&of, sums + p * count * LANES, count);
            }
            __m512 bias = map->bias ? _mm512_loadu_ps(map->bias + k * LANES) : _mm512_setzero_ps();
            Plane out = plane_of(&map->out, sample * map->depth + z, k, map->height, map->width);
            untransform(map, sums, first, count, &out, bias);
        }
    }
}

static void share(void *of, int64_t first, int64_t end) {
    Map *map = of;
    int64_t most = (map->tiles + map->blocks - 1) / map->blocks;
    uint16_t *kept = aligned_alloc(64, map->taps * POINTS * map->in * most * LANES * sizeof(uint16_t));
    float *sums = aligned_alloc(64, POINTS * most * LANES * sizeof(float));
    if (!kept || !sums) __atomic_store_n(&map->lacking, 1, __ATOMIC_RELAXED);
    for (int64_t k = first; k < end && kept && sums; k++) {
        int64_t block = k % map->blocks, from = map->tiles * block / map->blocks, to = map->tiles * (block + 1) / map->blocks;
        column_of_tiles(map, k / map->blocks, from, to - from, kept, sums);
    }
    free(kept);
    free(sums);
}

/* The convolution of `x` (B, D, H, W, x_channels) and `beside` it another map with `weights` as `winograd_weights` gives them, for `out`
   (B, D, H, W, out_channels) and one beside it: kernels of `taps` (1 or 3) x 3 x 3, zeros beyond the border, and a bias or none. A map
   beside it that has no channels may be none. `done` is 0 where there was no memory. */
void winograd(uint16_t *x, uint16_t *beside, const uint16_t *weights, const float *bias, uint16_t *out, uint16_t *out_beside,
              int64_t x_channels, int64_t beside_channels, int64_t out_channels, int64_t out_beside_channels, int64_t batch, int64_t depth,
              int64_t height, int64_t width, int64_t taps, int64_t threads, int64_t *done) {
    int64_t across = (width + 1) / 2, tiles = (height + 1) / 2 * across;
    Map map = {.x = {{x, beside}, {x_channels / LANES, beside_channels / LANES}},
               .out = {{out, out_beside}, {out_channels / LANES, out_beside_channels / LANES}},
               .weights = weights, .bias = bias, .depth = depth, .height = height, .width = width, .taps = taps,
               .across = across, .tiles = tiles, .blocks = (tiles + MOST - 1) / MOST};
    map.in = map.x.blocks[0] + map.x.blocks[1];
    map.made = map.out.blocks[0] + map.out.blocks[1];
    in_shares(share, &map, batch * map.blocks, threads);
    *done = !map.lacking;
}

/* Sums of three weights that the points of a tile need along one axis. */
static inline void spread(const __m512 *three, int64_t step, __m512 *four, int64_t apart) {
    __m512 half = _mm512_set1_ps(0.5f), ends = (three[0] + three[2 * step]) * half, middle = three[step] * half;
    four[0] = three[0];
    four[apart] = ends + middle;
    four[2 * apart] = ends - middle;
    four[3 * apart] = three[2 * step];
}

/* Weights (made, in, taps, 3, 3) in float32, `strides` apart, as (made / 16, 16 points, taps, in / 2, 16, 2) in bf16. */
void winograd_weights(const float *weights, const int64_t *strides, uint16_t *to, int64_t made, int64_t in, int64_t taps) {
    for (int64_t k = 0; k < made / LANES; k++)
        for (int64_t tap = 0; tap < taps; tap++)
            for (int64_t c = 0; c < in; c += 2) {
                __m512i points[2][POINTS];
                for (int odd = 0; odd < 2; odd++) {
                    __m512 own[9], half[12], whole[POINTS];
                    for (int place = 0; place < 9; place++) {
                        float lanes[LANES];
                        const float *from = weights + (c + odd) * strides[1] + tap * strides[2] + place / 3 * strides[3] + place % 3 * strides[4];
                        for (int lane = 0; lane < LANES; lane++) lanes[lane] = from[(k * LANES + lane) * strides[0]];
                        own[place] = _mm512_loadu_ps(lanes);
                    }
                    for (int x = 0; x < 3; x++) spread(own + x, 3, half + x, 3);
                    for (int y = 0; y < 4; y++) spread(half + 3 * y, 1, whole + 4 * y, 1);
                    for (int p = 0; p < POINTS; p++) points[odd][p] = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(whole[p]));
                }
                for (int p = 0; p < POINTS; p++) {
                    uint16_t *at = to + (((k * POINTS + p) * taps + tap) * in + c) * LANES;
                    _mm512_storeu_si512(at, _mm512_or_si512(points[0][p], _mm512_slli_epi32(points[1][p], 16)));
                }
            }
}
#endif
