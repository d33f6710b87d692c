/* The gradient of the weights of the convolutions in winograd.c, by the same sums: what 4 x 4 inputs of a tile give times what the 2 x 2
   gradients of its outputs give, at each of 16 points, summed over all tiles. Products are taken of two tiles at once.

   Maps lie and tiles are counted as there. Some of them are worked on together, a few planes at a time (nets/_winograd.py). */
#if defined(__AVX512BF16__) && defined(__AVX512BW__) && defined(__AVX512VL__)
#include "parallel.h"
#include "winograd.h"
#include <stdlib.h>

enum { SQUARE = LANES * LANES, ROOM = 6 << 18, GROUPS = 16 };

typedef struct {
    Maps x, grad;
    float *sums, *bias; /* for each group: (16 points, taps, in, made, 16, 16) and (made, 16) */
    int64_t depth, height, width, in, made, taps; /* channels in blocks of 16 */
    int64_t across, tiles, blocks, units, groups, pairs, planes;
    int32_t lacking; /* whether there was no memory: set by any thread */
} Map;

/* Values of two tiles side by side for each channel. */
static inline void keep(uint16_t *to, __m512 one, __m512 two) {
    const __m512i order = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6, 21, 5, 20, 4, 19, 3,
                                           18, 2, 17, 1, 16, 0);
    _mm512_store_si512(to, _mm512_permutexvar_epi16(order, (__m512i)_mm512_cvtne2ps_pbh(two, one)));
}

/* Sums of the columns of two tiles at all points, which are `step` apart. */
static inline void keep_inputs(uint16_t *to, int64_t step, __m512 (*a)[4], __m512 (*b)[4], __m512 (*c)[4], __m512 (*d)[4]) {
    for (int k = 0; k < 4; k++) {
        __m512 one[4], two[4];
        sums_of(a[0][k], a[1][k], b[0][k], b[1][k], one);
        sums_of(c[0][k], c[1][k], d[0][k], d[1][k], two);
        for (int j = 0; j < 4; j++) keep(to + (4 * k + j) * step, one[j], two[j]);
    }
}

/* What the inputs of tiles `first` ... `end` give, 16 channels of each: (16 points, pairs, 16, 2), the points `step` apart. */
static void inputs(const Plane *plane, int64_t across, int64_t first, int64_t end, int64_t step, uint16_t *to) {
    __m512 c[6][4], d[4][4];
    Rows rows;
    for (int64_t t = first; t < end; t += 2, to += 2 * LANES) {
        int64_t x = t % across * 2;
        if (t == first || x == 0) {
            rows = rows_of(plane, t / across * 2 - 1);
            column(&rows, x - 1, c[0]);
            column(&rows, x, c[1]);
        }
        column(&rows, x + 1, c[2]);
        column(&rows, x + 2, c[3]);
        if (t + 1 < end && x / 2 + 1 < across) {
            column(&rows, x + 3, c[4]);
            column(&rows, x + 4, c[5]);
            keep_inputs(to, step, c, c + 2, c + 2, c + 4);
            memcpy(c, c + 4, sizeof *c * 2);
            continue;
        }
        memset(d, 0, sizeof d);
        if (t + 1 < end) { /* the second is the first of the next row */
            rows = rows_of(plane, t / across * 2 + 1);
            for (int k = 0; k < 4; k++) column(&rows, k - 1, d[k]);
        }
        keep_inputs(to, step, c, c + 2, d, d + 2);
        memcpy(c, d + 2, sizeof *c * 2);
    }
}

/* Sums of the gradients of the two outputs of a tile along an axis; the last without its sign, see `gather`. */
static inline void outputs_of(__m512 a, __m512 b, __m512 *sums) {
    sums[0] = a;
    sums[1] = a + b;
    sums[2] = a - b;
    sums[3] = b;
}

/* The gradients of the four outputs of a tile for the points; their sum is returned. */
static inline __m512 spread(const Rows *rows, int64_t x, __m512 *points) {
    __m512 left[4], right[4], none = _mm512_setzero_ps();
    int more = x + 1 < rows->width;
    outputs_of(values(rows, 0, x), values(rows, 1, x), left);
    outputs_of(more ? values(rows, 0, x + 1) : none, more ? values(rows, 1, x + 1) : none, right);
    for (int k = 0; k < 4; k++) outputs_of(left[k], right[k], points + 4 * k);
    return points[5];
}

/* The same as `inputs` for the gradients of the outputs; the sum of all of them is added to `bias`. */
static void outputs(const Plane *plane, int64_t across, int64_t first, int64_t end, int64_t step, uint16_t *to, float *bias) {
    __m512 total = _mm512_loadu_ps(bias), one[POINTS], two[POINTS];
    Rows rows;
    for (int64_t t = first; t < end; t += 2, to += 2 * LANES) {
        int64_t x = t % across * 2;
        if (t == first || x == 0) rows = rows_of(plane, t / across * 2);
        total += spread(&rows, x, one);
        memset(two, 0, sizeof two);
        if (t + 1 < end) {
            x += 2;
            if (x / 2 == across) { /* the first of the next row */
                rows = rows_of(plane, t / across * 2 + 2);
                x = 0;
            }
            total += spread(&rows, x, two);
        }
        for (int p = 0; p < POINTS; p++) keep(to + p * step, one[p], two[p]);
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
            for (int c = 0; c < LANES; c++) sums[c] = _mm512_dpbf16_ps(sums[c], both, everywhere(from + 2 * c));
        }
    }
#pragma GCC unroll 16
    for (int c = 0; c < LANES; c++) _mm512_store_ps(to + c * LANES, sums[c]);
}

typedef struct {
    uint16_t *inputs, *outputs; /* (16 points, blocks, planes in turn, pairs, 16, 2) */
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
                        v[planes] = work->inputs + ((p * map->in + c) * turn + seen % turn) * size;
                        q[planes++] = work->outputs + ((p * map->made + k) * map->planes + z - from) * size;
                    }
                    float *to = work->sums + (((p * map->taps + tap) * map->in + c) * map->made + k) * SQUARE;
                    products(v, q, planes, (work->end - work->first + 1) / 2, to);
                }
}

/* All planes of some tiles of a sample. */
static void column_of_tiles(const Map *map, const Work *work) {
    int64_t reach = map->taps / 2, turn = map->planes + 2 * reach, size = map->pairs * 2 * LANES;
    int64_t ready = 0; /* planes of the inputs */
    for (int64_t from = 0; from < map->depth; from += map->planes) {
        int64_t end = from + map->planes < map->depth ? from + map->planes : map->depth;
        for (; ready < map->depth && ready < end + reach; ready++)
            for (int64_t c = 0; c < map->in; c++) {
                Plane plane = plane_of(&map->x, work->sample * map->depth + ready, c, map->height, map->width);
                uint16_t *to = work->inputs + (c * turn + ready % turn) * size;
                inputs(&plane, map->across, work->first, work->end, map->in * turn * size, to);
            }
        for (int64_t z = from; z < end; z++)
            for (int64_t k = work->made; k < work->made_end; k++) {
                Plane plane = plane_of(&map->grad, work->sample * map->depth + z, k, map->height, map->width);
                uint16_t *to = work->outputs + (k * map->planes + z - from) * size;
                outputs(&plane, map->across, work->first, work->end, map->made * map->planes * size, to, work->bias + k * LANES);
            }
        chunk(map, work, from, end);
    }
}

/* Shares are counted group after group, in each of them a block of channels of the outputs after the other. */
static void share(void *of, int64_t first, int64_t end) {
    Map *map = of;
    int64_t turn = map->planes + 2 * (map->taps / 2), size = POINTS * map->pairs * 2 * LANES * sizeof(uint16_t);
    Work work = {.inputs = aligned_alloc(64, turn * map->in * size), .outputs = aligned_alloc(64, map->planes * map->made * size)};
    int ready = work.inputs && work.outputs;
    if (!ready) __atomic_store_n(&map->lacking, 1, __ATOMIC_RELAXED);
    for (int64_t at = first; at < end && ready; at += work.made_end - work.made) {
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
   (B, D, H, W, x_channels), `beside` it another map or none, and the gradients `grad` (B, D, H, W, made). `done` is 0 where there was
   no memory. */
void winograd_gradient(uint16_t *x, uint16_t *beside, uint16_t *grad, float *weights, const int64_t *strides, float *bias,
                       int64_t x_channels, int64_t beside_channels, int64_t made, int64_t batch, int64_t depth, int64_t height,
                       int64_t width, int64_t taps, int64_t threads, int64_t *done) {
    int64_t across = (width + 1) / 2, tiles = (height + 1) / 2 * across, blocks = (tiles + MOST - 1) / MOST;
    Map map = {.x = {{x, beside}, {x_channels / LANES, beside_channels / LANES}}, .grad = {{grad, 0}, {made / LANES, 0}},
               .depth = depth, .height = height, .width = width, .in = (x_channels + beside_channels) / LANES, .made = made / LANES,
               .taps = taps, .across = across, .tiles = tiles, .blocks = blocks, .units = batch * blocks};
    map.groups = groups_of(map.made, map.units);
    map.pairs = ((tiles + blocks - 1) / blocks + 1) / 2;
    map.planes = ROOM / (POINTS * map.pairs * 2 * LANES * (int64_t)sizeof(uint16_t) * (map.in + map.made));
    map.planes = map.planes < 1 ? 1 : map.planes > 60 ? 60 : map.planes;
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
