/* Convolutions of kernels of 3 x 3 and 3 x 3 x 3 in single precision by Winograd's minimal filtering (Lavin & Gray 2016, arXiv:1509.09308).
   Along the last two axes a tile of 4 x 4 outputs is made of 6 x 6 inputs: both are sums of few, and between them 36 products take the
   place of 144. Along the first axis of a volume the kernel is taken as it is (nets/_winograd.py).

   Maps (B, D, H, W, C) in float32, the channels of a voxel together and in blocks of 16. The tiles of a plane are counted row after row;
   some of them in a row are worked on together, through all planes: what their inputs give is kept for as many planes as the kernel sees. */
#include "winograd_full.h"
#ifdef HAS_LANES
#include "parallel.h"
#include <stdlib.h>

typedef struct {
    Maps x, out;
    const float *weights, *bias;
    int64_t depth, height, width, in, made, taps; /* channels in blocks of 16 */
    int64_t across, tiles, shares;                /* tiles in a row, in a plane; how many shares a plane is worked on in */
    int32_t lacking;                              /* whether there was no memory: set by any thread */
} Map;

typedef struct {
    const float *v[3], *u[3]; /* planes and weights of the point, for each plane that the kernel sees */
    int planes;
    int64_t blocks, step;     /* of channels, and how far apart they are */
} Point;

/* Products of one point for a few tiles, whose sums stay in registers: (rows, 16). */
INLINE void point(const Point *of, int64_t first, float *to, int rows) {
    Reals sums[ROWS][PARTS];
#pragma GCC unroll 14
    for (int t = 0; t < rows; t++)
        for (int part = 0; part < PARTS; part++) sums[t][part] = every(0);
    for (int p = 0; p < of->planes; p++)
        for (int64_t b = 0; b < of->blocks; b++) {
            const float *v = of->v[p] + b * of->step + first * BLOCK, *u = of->u[p] + b * BLOCK * BLOCK;
#pragma GCC unroll 4
            for (int c = 0; c < BLOCK; c++) {
                Reals weights[PARTS];
                for (int part = 0; part < PARTS; part++) weights[part] = reals(u + c * BLOCK + part * LANES);
#pragma GCC unroll 14
                for (int t = 0; t < rows; t++) {
                    Reals value = every(v[t * BLOCK + c]);
                    for (int part = 0; part < PARTS; part++) sums[t][part] += value * weights[part];
                }
            }
        }
#pragma GCC unroll 14
    for (int t = 0; t < rows; t++)
        for (int part = 0; part < PARTS; part++) put(to + t * BLOCK + part * LANES, sums[t][part]);
}

static void products(const Point *of, int64_t count, float *to) {
    int64_t turns = (count + ROWS - 1) / ROWS;
    for (int64_t turn = 0; turn < turns; turn++) {
        int64_t first = count * turn / turns, end = count * (turn + 1) / turns;
        float *into = to + first * BLOCK;
        switch (end - first) {
#define CASE(n) case n: point(of, first, into, n); break;
            CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6)
#if defined(__AVX512F__)
            CASE(7) CASE(8) CASE(9) CASE(10) CASE(11) CASE(12) CASE(13) CASE(14)
#endif
#undef CASE
        }
    }
}

/* 4 x 4 outputs of each tile from the sums (36 points, count, 16), LANES channels of them. */
static void untransform(const Map *map, const float *sums, int64_t first, int64_t count, const Plane *out, Reals bias) {
    for (int64_t t = 0; t < count; t++, sums += BLOCK) {
        int64_t y = STEP * ((first + t) / map->across), x = STEP * ((first + t) % map->across);
        int64_t down = map->height - y < STEP ? map->height - y : STEP, right = map->width - x < STEP ? map->width - x : STEP;
        Reals half[SIDE][STEP], whole[STEP][STEP];
        for (int k = 0; k < SIDE; k++) {
            Reals own[SIDE];
            for (int j = 0; j < SIDE; j++) own[j] = reals(sums + (SIDE * k + j) * count * BLOCK);
            outputs_of(own, 1, half[k], 1);
        }
        for (int j = 0; j < STEP; j++) outputs_of(half[0] + j, STEP, whole[0] + j, STEP);
        float *to = out->x + (y * map->width + x) * out->channels;
        for (int64_t k = 0; k < down; k++, to += map->width * out->channels)
            for (int64_t j = 0; j < right; j++) put(to + j * out->channels, whole[k][j] + bias);
    }
}

/* A block of channels of a plane of outputs. `kept` as below. */
static void made_of(const Map *map, int64_t sample, int64_t z, int64_t k, int64_t first, int64_t count, const float *kept, float *sums) {
    int64_t reach = map->taps / 2, step = map->in * count * BLOCK;
    for (int64_t p = 0; p < POINTS; p++) {
        Point of = {.blocks = map->in, .step = count * BLOCK};
        for (int64_t tap = 0; tap < map->taps; tap++) {
            int64_t from = z + tap - reach;
            if (from < 0 || from >= map->depth) continue;
            of.v[of.planes] = kept + (from % map->taps * POINTS + p) * step;
            of.u[of.planes++] = map->weights + ((k * POINTS + p) * map->taps + tap) * map->in * BLOCK * BLOCK;
        }
        products(&of, count, sums + p * count * BLOCK);
    }
    for (int part = 0; part < PARTS; part++) {
        Plane out = plane_of(&map->out, sample * map->depth + z, k, map->height, map->width);
        out.x += part * LANES;
        untransform(map, sums + part * LANES, first, count, &out, map->bias ? reals(map->bias + k * BLOCK + part * LANES) : every(0));
    }
}

/* One share of the tiles of a sample through all planes. `kept`: (taps, 36 points, blocks, count, 16); `sums`: (36 points, count, 16). */
static void column_of_tiles(const Map *map, int64_t sample, int64_t first, int64_t count, float *kept, float *sums) {
    int64_t reach = map->taps / 2, step = map->in * count * BLOCK;
    for (int64_t ahead = 0; ahead < map->depth + reach; ahead++) {
        for (int64_t b = 0; ahead < map->depth && b < map->in; b++) {
            Plane plane = plane_of(&map->x, sample * map->depth + ahead, b, map->height, map->width);
            transform(&plane, map->across, first, count, step, kept + ahead % map->taps * POINTS * step + b * count * BLOCK);
        }
        for (int64_t k = 0; ahead >= reach && k < map->made; k++) made_of(map, sample, ahead - reach, k, first, count, kept, sums);
    }
}

static void share(void *of, int64_t first, int64_t end) {
    Map *map = of;
    int64_t most = (map->tiles + map->shares - 1) / map->shares;
    float *kept = aligned_alloc(64, map->taps * POINTS * map->in * most * BLOCK * sizeof(float));
    float *sums = aligned_alloc(64, POINTS * most * BLOCK * sizeof(float));
    if (!kept || !sums) __atomic_store_n(&map->lacking, 1, __ATOMIC_RELAXED);
    for (int64_t k = first; k < end && kept && sums; k++) {
        int64_t part = k % map->shares, from = map->tiles * part / map->shares, to = map->tiles * (part + 1) / map->shares;
        column_of_tiles(map, k / map->shares, from, to - from, kept, sums);
    }
    free(kept);
    free(sums);
}

/* The convolution of `x` (B, D, H, W, x_channels) and `beside` it another map with `weights` as `winograd_full_weights` gives them, for
   `out` (B, D, H, W, out_channels) and one beside it: kernels of `taps` (1 or 3) x 3 x 3, zeros beyond the border, and a bias or none. A
   map beside it that has no channels may be none. `done` is 0 where there was no memory. */
void winograd_full(float *x, float *beside, const float *weights, const float *bias, float *out, float *out_beside, int64_t x_channels,
                   int64_t beside_channels, int64_t out_channels, int64_t out_beside_channels, int64_t batch, int64_t depth,
                   int64_t height, int64_t width, int64_t taps, int64_t threads, int64_t *done) {
    int64_t across = (width + STEP - 1) / STEP, tiles = (height + STEP - 1) / STEP * across;
    Map map = {.x = {{x, beside}, {x_channels / BLOCK, beside_channels / BLOCK}},
               .out = {{out, out_beside}, {out_channels / BLOCK, out_beside_channels / BLOCK}},
               .weights = weights, .bias = bias, .depth = depth, .height = height, .width = width, .taps = taps,
               .across = across, .tiles = tiles, .shares = (tiles + MOST - 1) / MOST};
    map.in = map.x.blocks[0] + map.x.blocks[1];
    map.made = map.out.blocks[0] + map.out.blocks[1];
    in_shares(share, &map, batch * map.shares, threads);
    *done = !map.lacking;
}

/* The values of three weights at the six places along an axis; `step` and `apart` from one to the next. */
INLINE void weights_of(const Reals *g, int step, Reals *to, int apart) {
    Reals even = g[0] * every(-128 / 243.0f) + g[2 * step] * every(-8 / 27.0f), odd = g[step] * every(-32 / 81.0f);
    to[0] = g[0] * every(64 / 81.0f);
    to[apart] = even + odd;
    to[2 * apart] = even - odd;
    even = g[0] * every(32 / 243.0f) + g[2 * step] * every(8 / 27.0f), odd = g[step] * every(16 / 81.0f);
    to[3 * apart] = even + odd;
    to[4 * apart] = even - odd;
    to[5 * apart] = g[2 * step];
}

/* Weights (made, in, taps, 3, 3), `strides` apart, as (made / 16, 36 points, taps, in, 16). */
void winograd_full_weights(const float *weights, const int64_t *strides, float *to, int64_t made, int64_t in, int64_t taps) {
    for (int64_t at = 0; at < made / LANES * taps * in; at++) {
        int64_t c = at / PARTS % in, tap = at / PARTS / in % taps, k = at / PARTS / in / taps * BLOCK + at % PARTS * LANES;
        const float *from = weights + k * strides[0] + c * strides[1] + tap * strides[2];
        Reals own[9], half[3 * SIDE], whole[POINTS];
        for (int place = 0; place < 9; place++) {
            float lanes[LANES];
            for (int lane = 0; lane < LANES; lane++) lanes[lane] = from[lane * strides[0] + place / 3 * strides[3] + place % 3 * strides[4]];
            own[place] = reals(lanes);
        }
        for (int x = 0; x < 3; x++) weights_of(own + x, 3, half + x, 3);
        for (int y = 0; y < SIDE; y++) weights_of(half + 3 * y, 1, whole + SIDE * y, 1);
        for (int p = 0; p < POINTS; p++)
            put(to + (((k / BLOCK * POINTS + p) * taps + tap) * in + c) * BLOCK + k % BLOCK, whole[p]);
    }
}
#endif
