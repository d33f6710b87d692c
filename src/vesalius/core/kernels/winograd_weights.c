/* The gradient of the weights of the convolutions in winograd.c, by the same sums: what 4 x 4 inputs of a tile give times what the 2 x 2
   gradients of its outputs give, at each of 16 points, summed over all tiles. Products are taken of two tiles at once.

   Tiles are counted as there. Some of them are worked on together, a few planes at a time. */
#if defined(__AVX512BF16__) && defined(__AVX512BW__) && defined(__AVX512VL__)
#include "parallel.h"
#include <immintrin.h>
#include <stdlib.h>
#include <string.h>

enum { LANES = 16, POINTS = 16, MOST = 28, SQUARE = LANES * LANES, ROOM = 3 << 18, GROUPS = 16 };

typedef struct {
    const uint16_t *x, *grad;
    float *sums, *bias; /* for each group: (16 points, taps, in, made, 16, 16) and (made, 16) */
    int64_t depth, height, width, in, made, taps; /* channels in blocks of 16 */
    int64_t across, tiles, blocks, units, groups, pairs, planes;
} Map;

typedef struct {
    const uint16_t *x; /* a plane */
    int64_t height, width, channels;
} Plane;

/* 16 channels at (y, x), 0 beyond the plane. */
static inline __m512 voxel(const Plane *plane, int64_t y, int64_t x) {
    int inside = x >= 0 && x < plane->width && y >= 0 && y < plane->height;
    const uint16_t *from = plane->x + (inside ? (y * plane->width + x) * plane->channels : 0);
    __m256i low = _mm256_maskz_loadu_epi16(inside ? 0xffff : 0, from);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(low), 16));
}

static inline void column(const Plane *plane, int64_t y, int64_t x, __m512 *sums) {
    __m512 rows[4];
    for (int k = 0; k < 4; k++) rows[k] = voxel(plane, y + k, x);
    sums[0] = rows[0] - rows[2];
    sums[1] = rows[1] + rows[2];
    sums[2] = rows[2] - rows[1];
    sums[3] = rows[1] - rows[3];
}

/* Values of two tiles side by side for each channel. */
static inline void keep(uint16_t *to, __m512 one, __m512 two) {
    const __m512i order = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6, 21, 5, 20, 4, 19, 3,
                                           18, 2, 17, 1, 16, 0);
    _mm512_store_si512(to, _mm512_permutexvar_epi16(order, (__m512i)_mm512_cvtne2ps_pbh(two, one)));
}

/* What the inputs of tiles `first` ... `end` give, 16 channels of each: (16 points, blocks, pairs, 16, 2). */
static void inputs(const Plane *plane, int64_t across, int64_t first, int64_t end, int64_t step, uint16_t *to) {
    __m512 c[2][4][4];
    for (int64_t t = first; t < end; t += 2, to += 2 * LANES) {
        for (int k = 0; k < 2; k++) {
            int64_t y = 2 * ((t + k) / across) - 1, x = 2 * ((t + k) % across) - 1;
            if (t + k >= end)
                memset(c[k], 0, sizeof c[k]);
            else {
                if (t + k == first || x < 0) {
                    column(plane, y, x, c[k][0]);
                    column(plane, y, x + 1, c[k][1]);
                } else
                    memcpy(c[k], c[1 - k][2], 2 * sizeof c[k][2]);
                column(plane, y, x + 2, c[k][2]);
                column(plane, y, x + 3, c[k][3]);
            }
        }
        for (int k = 0; k < 4; k++) {
            uint16_t *at = to + 4 * k * step;
            keep(at, c[0][0][k] - c[0][2][k], c[1][0][k] - c[1][2][k]);
            keep(at + step, c[0][1][k] + c[0][2][k], c[1][1][k] + c[1][2][k]);
            keep(at + 2 * step, c[0][2][k] - c[0][1][k], c[1][2][k] - c[1][1][k]);
            keep(at + 3 * step, c[0][1][k] - c[0][3][k], c[1][1][k] - c[1][3][k]);
        }
    }
}

/* The same of the gradients of the outputs; the sum of all of them is added to `bias`. */
static void outputs(const Plane *plane, int64_t across, int64_t first, int64_t end, int64_t step, uint16_t *to, float *bias) {
    __m512 total = _mm512_loadu_ps(bias);
    for (int64_t t = first; t < end; t += 2, to += 2 * LANES) {
        __m512 left[2][4], right[2][4];
        for (int k = 0; k < 2; k++) {
            int64_t y = t + k < end ? 2 * ((t + k) / across) : plane->height, x = 2 * ((t + k) % across);
            left[k][0] = voxel(plane, y, x), left[k][3] = voxel(plane, y + 1, x);
            right[k][0] = voxel(plane, y, x + 1), right[k][3] = voxel(plane, y + 1, x + 1);
            left[k][1] = left[k][0] + left[k][3], left[k][2] = left[k][0] - left[k][3];
            right[k][1] = right[k][0] + right[k][3], right[k][2] = right[k][0] - right[k][3];
            total += left[k][1] + right[k][1];
        }
        for (int k = 0; k < 4; k++) {
            uint16_t *at = to + 4 * k * step;
            keep(at, left[0][k], left[1][k]);
            keep(at + step, left[0][k] + right[0][k], left[1][k] + right[1][k]);
            keep(at + 2 * step, left[0][k] - right[0][k], left[1][k] - right[1][k]);
            keep(at + 3 * step, right[0][k], right[1][k]);
        }
    }
    _mm512_storeu_ps(bias, total);
}

/* Adds to sums (16, 16) what `pairs` pairs of tiles give: inputs (pairs, 16, 2) at `v`, gradients (pairs, 16, 2) at `q`, in `planes` planes
   whose places are listed. */
static void products(const uint16_t **v, const uint16_t **q, int64_t planes, int64_t pairs, float *to) {
    __m512 sums[LANES];
#pragma GCC unroll 16
    for (int c = 0; c < LANES; c++) sums[c] = _mm512_load_ps(to + c * LANES);
    for (int64_t p = 0; p < planes; p++) {
        const uint16_t *from = v[p], *by = q[p];
        for (int64_t pair = 0; pair < pairs; pair++, from += 2 * LANES, by += 2 * LANES) {
            __m512bh both = (__m512bh)_mm512_load_si512(by);
#pragma GCC unroll 16
            for (int c = 0; c < LANES; c++)
                sums[c] = _mm512_dpbf16_ps(sums[c], both, (__m512bh)_mm512_set1_epi32(*(const int *)(from + 2 * c)));
        }
    }
#pragma GCC unroll 16
    for (int c = 0; c < LANES; c++) _mm512_store_ps(to + c * LANES, sums[c]);
}

typedef struct {
    uint16_t *inputs, *outputs; /* planes in turn: (16 points, channels, pairs, 16, 2) each */
    float *sums, *bias;
    int64_t sample, first, end, made, made_end; /* tiles, and blocks of channels of the outputs */
} Work;

/* What planes `from` ... `end` of the gradients add. */
static void chunk(const Map *map, const Work *work, int64_t from, int64_t end) {
    int64_t reach = map->taps / 2, turn = map->planes + 2 * reach, size = map->pairs * 2 * LANES;
    const uint16_t *v[64], *q[64];
    for (int64_t p = 0; p < POINTS; p++)
        for (int64_t tap = 0; tap < map->taps; tap++)
            for (int64_t c = 0; c < map->in; c++)
                for (int64_t k = work->made; k < work->made_end; k++) {
                    int64_t planes = 0;
                    for (int64_t z = from; z < end; z++) {
                        int64_t seen = z + tap - reach;
                        if (seen < 0 || seen >= map->depth) continue;
                        v[planes] = work->inputs + ((seen % turn * POINTS + p) * map->in + c) * size;
                        q[planes++] = work->outputs + (((z - from) * POINTS + p) * map->made + k) * size;
                    }
                    float *to = work->sums + (((p * map->taps + tap) * map->in + c) * map->made + k) * SQUARE;
                    products(v, q, planes, (work->end - work->first + 1) / 2, to);
                }
}

/* All planes of some tiles of a sample. */
static void column_of_tiles(const Map *map, const Work *work) {
    int64_t reach = map->taps / 2, turn = map->planes + 2 * reach, size = map->pairs * 2 * LANES, area = map->height * map->width;
    int64_t ready = 0; /* planes of the inputs */
    for (int64_t from = 0; from < map->depth; from += map->planes) {
        int64_t end = from + map->planes < map->depth ? from + map->planes : map->depth;
        for (; ready < map->depth && ready < end + reach; ready++)
            for (int64_t c = 0; c < map->in; c++) {
                const uint16_t *x = map->x + ((work->sample * map->depth + ready) * area * map->in + c) * LANES;
                Plane plane = {x, map->height, map->width, map->in * LANES};
                uint16_t *to = work->inputs + (ready % turn * POINTS * map->in + c) * size;
                inputs(&plane, map->across, work->first, work->end, map->in * size, to);
            }
        for (int64_t z = from; z < end; z++)
            for (int64_t k = work->made; k < work->made_end; k++) {
                const uint16_t *grad = map->grad + ((work->sample * map->depth + z) * area * map->made + k) * LANES;
                Plane plane = {grad, map->height, map->width, map->made * LANES};
                uint16_t *to = work->outputs + ((z - from) * POINTS * map->made + k) * size;
                outputs(&plane, map->across, work->first, work->end, map->made * size, to, work->bias + k * LANES);
            }
        chunk(map, work, from, end);
    }
}

/* Shares are counted group after group, in each of them a block of channels of the outputs after the other. */
static void share(void *of, int64_t first, int64_t end) {
    const Map *map = of;
    int64_t turn = map->planes + 2 * (map->taps / 2), size = POINTS * map->pairs * 2 * LANES * sizeof(uint16_t);
    Work work = {.inputs = aligned_alloc(64, turn * map->in * size), .outputs = aligned_alloc(64, map->planes * map->made * size)};
    for (int64_t at = first; at < end; at += work.made_end - work.made) {
        int64_t group = at / map->made;
        work.made = at % map->made;
        work.made_end = end - group * map->made < map->made ? end - group * map->made : map->made;
        work.sums = map->sums + group * POINTS * map->taps * map->in * map->made * SQUARE;
        work.bias = map->bias + group * map->made * LANES;
        for (int64_t unit = map->units * group / map->groups; unit < map->units * (group + 1) / map->groups; unit++) {
            int64_t block = unit % map->blocks;
            work.sample = unit / map->blocks;
            work.first = map->tiles * block / map->blocks, work.end = map->tiles * (block + 1) / map->blocks;
            column_of_tiles(map, &work);
        }
    }
    free(work.inputs);
    free(work.outputs);
}

/* Three weights along an axis of what four points have. */
static inline void gather(const __m512 *four, int64_t step, __m512 *three, int64_t apart) {
    __m512 half = _mm512_set1_ps(0.5f), both = (four[step] + four[2 * step]) * half;
    three[0] = four[0] + both;
    three[apart] = (four[step] - four[2 * step]) * half;
    three[2 * apart] = both - four[3 * step]; /* `outputs` leaves its sign out */
}

/* The gradient of the weights, `strides` apart, from the sums of all groups. */
static void collect(const Map *map, float *to, const int64_t *strides) {
    int64_t apart = map->taps * map->in * map->made * SQUARE;
    for (int64_t at = 0; at < apart; at += LANES) {
        __m512 own[POINTS], half[12], whole[9];
        for (int p = 0; p < POINTS; p++) {
            own[p] = _mm512_load_ps(map->sums + p * apart + at);
            for (int64_t g = 1; g < map->groups; g++) own[p] += _mm512_load_ps(map->sums + (g * POINTS + p) * apart + at);
        }
        for (int x = 0; x < 4; x++) gather(own + x, 4, half + x, 4);
        for (int y = 0; y < 3; y++) gather(half + 4 * y, 1, whole + 3 * y, 1);
        int64_t lane = at / LANES % LANES, k = at / SQUARE % map->made, c = at / SQUARE / map->made % map->in;
        float *goal = to + k * LANES * strides[0] + (c * LANES + lane) * strides[1] + at / SQUARE / map->made / map->in * strides[2];
        for (int place = 0; place < 9; place++)
            for (int j = 0; j < LANES; j++) goal[j * strides[0] + place / 3 * strides[3] + place % 3 * strides[4]] = whole[place][j];
    }
}

/* How many groups have sums of their own: by the shape, never by the threads. */
static int64_t groups_of(int64_t made, int64_t units) {
    int64_t groups = GROUPS / (made * made) > 1 ? GROUPS / (made * made) : 1;
    return groups < units ? groups : units;
}

/* The gradient of the weights (made, in, taps, 3, 3), float32, `strides` apart, and of the bias (made), from the inputs `x`
   (B, D, H, W, in) and the gradients `grad` (B, D, H, W, made). */
void winograd_gradient(const uint16_t *x, const uint16_t *grad, float *weights, const int64_t *strides, float *bias, int64_t batch,
                       int64_t depth, int64_t height, int64_t width, int64_t in, int64_t made, int64_t taps, int64_t threads) {
    int64_t across = (width + 1) / 2, tiles = (height + 1) / 2 * across, blocks = (tiles + MOST - 1) / MOST;
    Map map = {x, grad, 0, 0, depth, height, width, in / LANES, made / LANES, taps, across, tiles, blocks, batch * blocks};
    map.groups = groups_of(map.made, map.units);
    map.pairs = ((tiles + blocks - 1) / blocks + 1) / 2;
    map.planes = ROOM / (POINTS * map.pairs * 2 * LANES * (int64_t)sizeof(uint16_t) * (map.in + map.made));
    map.planes = map.planes < 1 ? 1 : map.planes > 60 ? 60 : map.planes;
    int64_t size = map.groups * POINTS * taps * map.in * map.made * SQUARE * sizeof(float), more = map.groups * made * sizeof(float);
    map.sums = aligned_alloc(64, size + more);
    map.bias = map.sums + size / sizeof(float);
    memset(map.sums, 0, size + more);
    in_shares(share, &map, map.groups * map.made, threads);
    collect(&map, weights, strides);
    for (int64_t k = 0; k < made; k++) {
        bias[k] = 0;
        for (int64_t g = 0; g < map.groups; g++) bias[k] += map.bias[g * made + k];
    }
    free(map.sums);
}
#endif
