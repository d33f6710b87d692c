/* The gradient of the weights of the convolutions in winograd_full.c, by the same sums: what 6 x 6 inputs of a tile give times what the
   4 x 4 gradients of its outputs give, at each of 36 points, summed over all tiles.

   Maps lie and tiles are counted as there. Some of them are worked on together, a few planes at a time. */
#include "winograd_full.h"
#ifdef HAS_LANES
#include "parallel.h"
#include <stdlib.h>

enum { SQUARE = BLOCK * BLOCK, ROOM = 3 << 18, GROUPS = 8, PLANES = 60, COLUMNS = LANES == 16 ? 16 : 6 };

typedef struct {
    Maps x, grad;
    float *sums, *bias; /* for each group: (36 points, taps, in, made, 16, 16) and (made, 16) */
    int64_t depth, height, width, in, made, taps; /* channels in blocks of 16 */
    int64_t across, tiles, shares, units, groups, most, planes;
    int32_t lacking; /* whether there was no memory: set by any thread */
} Map;

/* The values of four gradients along an axis at the six places; `step` and `apart` from one to the next. */
INLINE void spread(const Reals *y, int step, Reals *to, int apart) {
    Reals even = y[0] + every(0.5625f) * y[2 * step], odd = every(0.75f) * y[step] + every(0.421875f) * y[3 * step];
    to[0] = y[0];
    to[apart] = even + odd;
    to[2 * apart] = even - odd;
    even = y[0] + every(2.25f) * y[2 * step], odd = every(1.5f) * y[step] + every(3.375f) * y[3 * step];
    to[3 * apart] = even + odd;
    to[4 * apart] = even - odd;
    to[5 * apart] = y[3 * step];
}

/* What the gradients of the outputs of `count` tiles from number `first` give, LANES channels of each: (36 points, count, 16), the points
   `step` apart; the sum of all of them is added to `bias`. */
static void outputs(const Plane *plane, int64_t across, int64_t first, int64_t count, int64_t step, float *to, float *bias) {
    Reals total = every(0), own[STEP], half[STEP][SIDE], whole[SIDE];
    Lines lines;
    for (int64_t t = first; t < first + count; t++, to += BLOCK) {
        if (t == first || t % across == 0) lines = lines_of(plane, t / across * STEP);
        for (int x = 0; x < STEP; x++) {
            across_lines(&lines, t % across * STEP + x, own, STEP);
            total += own[0] + own[1] + (own[2] + own[3]);
            spread(own, 1, half[x], 1);
        }
        for (int k = 0; k < SIDE; k++) {
            spread(half[0] + k, SIDE, whole, 1);
            for (int j = 0; j < SIDE; j++) put(to + (SIDE * k + j) * step, whole[j]);
        }
    }
    put(bias, reals(bias) + total);
}

typedef struct {
    const float *v[PLANES], *q[PLANES]; /* inputs (count, 16) and gradients (count, 16) of each plane */
    int64_t planes, count;
} Pairs;

/* Adds to sums (columns, 16), of some channels of the inputs, what all tiles give. */
INLINE void columns_of(const Pairs *of, int64_t first, float *to, int columns) {
    Reals sums[COLUMNS][PARTS];
#pragma GCC unroll 16
    for (int c = 0; c < columns; c++)
        for (int part = 0; part < PARTS; part++) sums[c][part] = reals(to + c * BLOCK + part * LANES);
    for (int64_t p = 0; p < of->planes; p++) {
        const float *v = of->v[p] + first, *q = of->q[p];
        for (int64_t t = 0; t < of->count; t++, v += BLOCK, q += BLOCK) {
            Reals by[PARTS];
            for (int part = 0; part < PARTS; part++) by[part] = reals(q + part * LANES);
#pragma GCC unroll 16
            for (int c = 0; c < columns; c++) {
                Reals value = every(v[c]);
                for (int part = 0; part < PARTS; part++) sums[c][part] += value * by[part];
            }
        }
    }
#pragma GCC unroll 16
    for (int c = 0; c < columns; c++)
        for (int part = 0; part < PARTS; part++) put(to + c * BLOCK + part * LANES, sums[c][part]);
}

static void products(const Pairs *of, float *to) {
#if defined(__AVX512F__)
    columns_of(of, 0, to, 16);
#else
    columns_of(of, 0, to, 6);
    columns_of(of, 6, to + 6 * BLOCK, 5);
    columns_of(of, 11, to + 11 * BLOCK, 5);
#endif
}

typedef struct {
    float *inputs, *outputs; /* (36 points, blocks, planes in turn, tiles, 16) */
    float *sums, *bias;
    int64_t sample, first, count, made, made_end; /* tiles, and blocks of channels of the outputs */
} Work;

/* What planes `from` ... `end` of the gradients add. */
static void chunk(const Map *map, const Work *work, int64_t from, int64_t end) {
    int64_t reach = map->taps / 2, turn = map->planes + 2 * reach, size = map->most * BLOCK;
    Pairs of = {.count = work->count};
    for (int64_t at = 0; at < POINTS * map->in * (work->made_end - work->made) * map->taps; at++) {
        int64_t tap = at % map->taps, k = work->made + at / map->taps % (work->made_end - work->made);
        int64_t c = at / map->taps / (work->made_end - work->made) % map->in, p = at / map->taps / (work->made_end - work->made) / map->in;
        of.planes = 0;
        for (int64_t z = from; z < end; z++) {
            int64_t seen = z + tap - reach;
            if (seen < 0 || seen >= map->depth) continue;
            of.v[of.planes] = work->inputs + ((p * map->in + c) * turn + seen % turn) * size;
            of.q[of.planes++] = work->outputs + ((p * map->made + k) * map->planes + z - from) * size;
        }
        products(&of, work->sums + (((p * map->taps + tap) * map->in + c) * map->made + k) * SQUARE);
    }
}

/* All planes of some tiles of a sample. */
static void column_of_tiles(const Map *map, const Work *work) {
    int64_t reach = map->taps / 2, turn = map->planes + 2 * reach, size = map->most * BLOCK;
    int64_t ready = 0; /* planes of the inputs */
    for (int64_t from = 0; from < map->depth; from += map->planes) {
        int64_t end = from + map->planes < map->depth ? from + map->planes : map->depth;
        for (; ready < map->depth && ready < end + reach; ready++)
            for (int64_t c = 0; c < map->in; c++) {
                Plane plane = plane_of(&map->x, work->sample * map->depth + ready, c, map->height, map->width);
                float *to = work->inputs + (c * turn + ready % turn) * size;
                transform(&plane, map->across, work->first, work->count, map->in * turn * size, to);
            }
        for (int64_t z = from; z < end; z++)
            for (int64_t at = work->made * PARTS; at < work->made_end * PARTS; at++) {
                int64_t k = at / PARTS, lane = at % PARTS * LANES;
                Plane plane = plane_of(&map->grad, work->sample * map->depth + z, k, map->height, map->width);
                plane.x += lane;
                float *to = work->outputs + (k * map->planes + z - from) * size + lane;
                outputs(&plane, map->across, work->first, work->count, map->made * map->planes * size, to, work->bias + at * LANES);
            }
        chunk(map, work, from, end);
    }
}

/* Shares are counted group after group, in each of them a block of channels of the outputs after the other. */
static void share(void *of, int64_t first, int64_t end) {
    Map *map = of;
    int64_t turn = map->planes + 2 * (map->taps / 2), size = POINTS * map->most * BLOCK * sizeof(float);
    Work work = {.inputs = aligned_alloc(64, turn * map->in * size), .outputs = aligned_alloc(64, map->planes * map->made * size)};
    int ready = work.inputs && work.outputs;
    if (!ready) __atomic_store_n(&map->lacking, 1, __ATOMIC_RELAXED);
    for (int64_t at = first; at < end && ready; at += work.made_end - work.made) {
        int64_t group = at / map->made;
        work.made = at % map->made;
        work.made_end = end - group * map->made < map->made ? end - group * map->made : map->made;
        work.sums = map->sums + group * POINTS * map->taps * map->in * map->made * SQUARE;
        work.bias = map->bias + group * map->made * BLOCK;
        for (int64_t unit = map->units * group / map->groups; unit < map->units * (group + 1) / map->groups; unit++) {
            int64_t part = unit % map->shares;
            work.sample = unit / map->shares;
            work.first = map->tiles * part / map->shares, work.count = map->tiles * (part + 1) / map->shares - work.first;
            column_of_tiles(map, &work);
        }
    }
    free(work.inputs);
    free(work.outputs);
}

/* Three weights along an axis of what six places have; `step` and `apart` from one to the next. */
INLINE void gather(const Reals *s, int step, Reals *to, int apart) {
    Reals even = s[step] + s[2 * step], odd = s[step] - s[2 * step], wide = s[3 * step] + s[4 * step], skew = s[3 * step] - s[4 * step];
    to[0] = every(64 / 81.0f) * s[0] - every(128 / 243.0f) * even + every(32 / 243.0f) * wide;
    to[apart] = every(16 / 81.0f) * skew - every(32 / 81.0f) * odd;
    to[2 * apart] = every(8 / 27.0f) * (wide - even) + s[5 * step];
}

/* The gradient of the weights, `strides` apart, from the sums of all groups. */
static void collect(const Map *map, float *to, const int64_t *strides) {
    int64_t apart = map->taps * map->in * map->made * SQUARE;
    for (int64_t at = 0; at < apart; at += LANES) {
        Reals own[POINTS], half[3 * SIDE], whole[9];
        for (int p = 0; p < POINTS; p++) {
            own[p] = reals(map->sums + p * apart + at);
            for (int64_t g = 1; g < map->groups; g++) own[p] += reals(map->sums + (g * POINTS + p) * apart + at);
        }
        for (int x = 0; x < SIDE; x++) gather(own + x, SIDE, half + x, SIDE);
        for (int y = 0; y < 3; y++) gather(half + SIDE * y, 1, whole + 3 * y, 1);
        int64_t row = at / BLOCK % BLOCK, k = at / SQUARE % map->made, c = at / SQUARE / map->made % map->in;
        float *goal = to + (k * BLOCK + at % BLOCK) * strides[0] + (c * BLOCK + row) * strides[1];
        goal += at / SQUARE / map->made / map->in * strides[2];
        for (int place = 0; place < 9; place++)
            for (int j = 0; j < LANES; j++) goal[j * strides[0] + place / 3 * strides[3] + place % 3 * strides[4]] = whole[place][j];
    }
}

/* How many groups have sums of their own: by the shape, never by the threads. */
static int64_t groups_of(int64_t made, int64_t units) {
    int64_t groups = GROUPS / (made * made) > 1 ? GROUPS / (made * made) : 1;
    return groups < units ? groups : units;
}

/* The gradient of the weights (made, in, taps, 3, 3), `strides` apart, and of the bias (made), from the inputs `x` (B, D, H, W, x_channels),
   `beside` it another map or none, and the gradients `grad` (B, D, H, W, made). `done` is 0 where there was no memory. */
void winograd_full_gradient(float *x, float *beside, float *grad, float *weights, const int64_t *strides, float *bias, int64_t x_channels,
                            int64_t beside_channels, int64_t made, int64_t batch, int64_t depth, int64_t height, int64_t width,
                            int64_t taps, int64_t threads, int64_t *done) {
    int64_t across = (width + STEP - 1) / STEP, tiles = (height + STEP - 1) / STEP * across, shares = (tiles + MOST - 1) / MOST;
    Map map = {.x = {{x, beside}, {x_channels / BLOCK, beside_channels / BLOCK}}, .grad = {{grad, 0}, {made / BLOCK, 0}},
               .depth = depth, .height = height, .width = width, .in = (x_channels + beside_channels) / BLOCK, .made = made / BLOCK,
               .taps = taps, .across = across, .tiles = tiles, .shares = shares, .units = batch * shares};
    map.groups = groups_of(map.made, map.units);
    map.most = (tiles + shares - 1) / shares;
    map.planes = ROOM / (POINTS * map.most * BLOCK * (int64_t)sizeof(float) * (map.in + map.made));
    map.planes = map.planes < 1 ? 1 : map.planes > PLANES ? PLANES : map.planes;
    int64_t size = map.groups * POINTS * taps * map.in * map.made * SQUARE * sizeof(float), more = map.groups * made * sizeof(float);
    map.sums = aligned_alloc(64, size + more);
    *done = 0;
    if (!map.sums) return;
    map.bias = map.sums + size / sizeof(float);
    memset(map.sums, 0, size + more);
    in_shares(share, &map, map.groups * map.made, threads);
    collect(&map, weights, strides);
    for (int64_t k = 0; k < made; k++) {
        bias[k] = 0;
        for (int64_t g = 0; g < map.groups; g++) bias[k] += map.bias[g * made + k];
    }
    free(map.sums);
    *done = !map.lacking;
}
#endif
