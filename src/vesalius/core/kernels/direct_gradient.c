/* The gradient of the weights of the convolutions in direct.c: what each voxel of the coarse map sees at each place of the kernel, times what
   it is itself, summed over all voxels. Products are taken of two voxels at once.

   Some voxels of a plane are worked on together, in as many planes as fit the cache. Threads share the places of the kernel and
   blocks of channels, so that the order of every sum is the same for any number of them. */
#if defined(__AVX512BF16__) && defined(__AVX512BW__) && defined(__AVX512VL__)
#include "direct.h"
#include "parallel.h"
#include <stdlib.h>

enum { STRIP = 288 }; /* voxels at once */

typedef struct {
    const uint16_t *fine, *coarse;
    float *sums, *fine_sums, *coarse_sums; /* (places, in, made, 16, 16), (places, in, 16), (made, 16) */
    Extent extent;
    int64_t in, made, strips, planes, pairs; /* channels of the fine and the coarse map in blocks of 16 */
    int32_t lacking;                         /* whether there was no memory: set by any thread */
} Map;

static inline __m256i block(const uint16_t *from) { return _mm256_loadu_si256((const __m256i *)from); }

static inline __m512 sum_of(__m512i both) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(both, 16)) + _mm512_castsi512_ps(_mm512_and_si512(both, _mm512_set1_epi32(0xffff0000)));
}

/* The order in which `seen_pairs` leaves 16 channels. */
static const int8_t order[LANES] = {0, 1, 2, 3, 8, 9, 10, 11, 4, 5, 6, 7, 12, 13, 14, 15};

/* 16 channels of `count` voxels at the places `seen` of a plane, two voxels in turn: (pairs, 16, 2). Their sum is added to `total`. */
static void seen_pairs(const uint16_t *plane, int64_t width, const int32_t *seen, int64_t count, uint16_t *to, float *total) {
    __m512 sum = _mm512_setzero_ps();
    for (int64_t t = 0; t < count; t += 2, to += 2 * LANES) {
        int32_t one = seen[t], two = seen[t + 1];
        __m256i a = block((one | two) < 0 && one < 0 ? zeros : plane + one * width), b = block((one | two) < 0 && two < 0 ? zeros : plane + two * width);
        _mm256_store_si256((__m256i *)to, _mm256_unpacklo_epi16(a, b));
        _mm256_store_si256((__m256i *)(to + LANES), _mm256_unpackhi_epi16(a, b));
        if (total) sum += sum_of(_mm512_load_si512(to));
    }
    if (total) _mm512_storeu_ps(total, _mm512_loadu_ps(total) + sum);
}

/* The same for voxels that lie side by side, their channels in order. */
static void pairs_of(const uint16_t *from, int64_t width, int64_t count, uint16_t *to, float *total) {
    __m512 sum = _mm512_setzero_ps();
    for (int64_t t = 0; t < count; t += 2, to += 2 * LANES) {
        __m512i both = in_turn(block(from + t * width), block(t + 1 < count ? from + (t + 1) * width : zeros));
        _mm512_store_si512(to, both);
        if (total) sum += sum_of(both);
    }
    if (total) _mm512_storeu_ps(total, _mm512_loadu_ps(total) + sum);
}

/* Adds to sums (16, 16) what `pairs` pairs of voxels give: (pairs, 16, 2) of the fine map at `v` and of the coarse one at `q`, in planes that
   are `v_step` and `q_step` apart. */
static void products(const uint16_t *v, const uint16_t *q, int64_t q_step, int64_t planes, int64_t pairs, float *to) {
    __m512 sums[LANES];
#pragma GCC unroll 16
    for (int c = 0; c < LANES; c++) sums[c] = _mm512_load_ps(to + c * LANES);
    for (int64_t p = 0; p < planes; p++) {
        const uint16_t *by = q + p * q_step;
        for (int64_t pair = 0; pair < pairs; pair++, v += 2 * LANES, by += 2 * LANES) {
            __m512bh both = (__m512bh)_mm512_load_si512(by);
#pragma GCC unroll 16
            for (int c = 0; c < LANES; c++) sums[c] = _mm512_dpbf16_ps(sums[c], both, everywhere(v + 2 * c));
        }
    }
#pragma GCC unroll 16
    for (int c = 0; c < LANES; c++) _mm512_store_ps(to + c * LANES, sums[c]);
}

typedef struct {
    uint16_t *fine, *coarse; /* (planes, pairs, 16, 2) and (made, planes, pairs, 16, 2) */
    int32_t *seen;
    int64_t first, count, sample, top, bottom; /* voxels of a plane, and planes of a sample */
} Work;

/* For each place of the kernel in a plane and each voxel: the number of the voxel of the fine plane that is seen, -1 beyond it and for what
   is missing to whole pairs. */
static void seen_in_plane(const Map *map, const Work *work) {
    const Extent *extent = &map->extent;
    int64_t y = work->first / extent->coarse[2], x = work->first % extent->coarse[2], places = extent->side[1] * extent->side[2];
    for (int64_t t = 0; t < map->pairs * 2; t++) {
        for (int64_t place = 0; place < places; place++) {
            int64_t row = seen(extent, 1, y, place / extent->side[2]), column = seen(extent, 2, x, place % extent->side[2]);
            int none = t >= work->count || row < 0 || column < 0;
            work->seen[place * map->pairs * 2 + t] = none ? -1 : (int32_t)(row * extent->fine[2] + column);
        }
        if (++x == extent->coarse[2]) x = 0, y++;
    }
}

/* Asks for the memory of what the next planes will see. */
static void expect(const Map *map, const Work *work) {
    const Extent *extent = &map->extent;
    int64_t width = map->in * LANES, top = work->first / extent->coarse[2] * extent->step[1] - extent->pad[1];
    int64_t rows = (work->count / extent->coarse[2] + 2) * extent->step[1] + extent->side[1];
    int64_t plane = work->bottom * extent->step[0] - extent->pad[0] + extent->side[0] - extent->step[0];
    int64_t end = plane + map->planes * extent->step[0] < extent->fine[0] ? plane + map->planes * extent->step[0] : extent->fine[0];
    top = top < 0 ? 0 : top;
    rows = rows < extent->fine[1] - top ? rows : extent->fine[1] - top;
    for (plane = plane < 0 ? 0 : plane; plane < end; plane++) {
        int64_t first = (work->sample * extent->fine[0] + plane) * extent->fine[1] + top;
        const uint16_t *from = map->fine + first * extent->fine[2] * width;
        for (int64_t at = 0; at < rows * extent->fine[2] * width; at += 2 * LANES) _mm_prefetch((const char *)(from + at), _MM_HINT_T1);
    }
}

/* What one place of the kernel and block of channels of the fine map adds. */
static void unit(const Map *map, const Work *work, int64_t number) {
    const Extent *extent = &map->extent;
    int64_t flat = extent->side[1] * extent->side[2], place = number / map->in, width = map->in * LANES, size = map->pairs * 2 * LANES;
    int64_t plane = extent->fine[1] * extent->fine[2] * width, pairs = (work->count + 1) / 2, planes = 0, start = 0;
    for (int64_t z = work->top; z < work->bottom; z++) { /* those that see something lie side by side */
        int64_t depth = seen(extent, 0, z, place / flat);
        if (depth < 0) continue;
        if (!planes) start = z - work->top;
        const uint16_t *from = map->fine + (work->sample * extent->fine[0] + depth) * plane + number % map->in * LANES;
        float *total = map->fine_sums ? map->fine_sums + number * LANES : 0;
        seen_pairs(from, width, work->seen + place % flat * map->pairs * 2, work->count, work->fine + planes++ * pairs * 2 * LANES, total);
    }
    for (int64_t k = 0; k < map->made && planes; k++) {
        const uint16_t *by = work->coarse + (k * map->planes + start) * size;
        products(work->fine, by, size, planes, pairs, map->sums + (number * map->made + k) * SQUARE);
    }
}

/* Some voxels of some planes. */
static void chunk(const Map *map, const Work *work, int64_t first, int64_t end) {
    int64_t voxels = map->extent.coarse[1] * map->extent.coarse[2], width = map->made * LANES, size = map->pairs * 2 * LANES;
    for (int64_t z = work->top; z < work->bottom; z++)
        for (int64_t k = 0; k < map->made; k++) {
            const uint16_t *from = map->coarse + ((work->sample * map->extent.coarse[0] + z) * voxels + work->first) * width + k * LANES;
            uint16_t *to = work->coarse + (k * map->planes + z - work->top) * size;
            pairs_of(from, width, work->count, to, map->coarse_sums && first == 0 ? map->coarse_sums + k * LANES : 0);
        }
    expect(map, work);
    for (int64_t number = first; number < end; number++) unit(map, work, number);
}

static void share(void *of, int64_t first, int64_t end) {
    Map *map = of;
    const int64_t *coarse = map->extent.coarse;
    int64_t size = map->planes * map->pairs * 2 * LANES * sizeof(uint16_t), voxels = coarse[1] * coarse[2];
    Work work = {.fine = aligned_alloc(64, size), .coarse = aligned_alloc(64, size * map->made)};
    work.seen = malloc(map->extent.side[1] * map->extent.side[2] * map->pairs * 2 * sizeof(int32_t));
    int ready = work.fine && work.coarse && work.seen;
    if (!ready) __atomic_store_n(&map->lacking, 1, __ATOMIC_RELAXED);
    for (int64_t strip = 0; strip < map->strips && ready; strip++) {
        work.first = voxels * strip / map->strips, work.count = voxels * (strip + 1) / map->strips - work.first;
        seen_in_plane(map, &work);
        for (work.sample = 0; work.sample < map->extent.batch; work.sample++)
            for (work.top = 0; work.top < coarse[0]; work.top = work.bottom) {
                work.bottom = work.top + map->planes < coarse[0] ? work.top + map->planes : coarse[0];
                chunk(map, &work, first, end);
            }
    }
    free(work.fine);
    free(work.coarse);
    free(work.seen);
}

/* The gradient of the weights, `strides` apart, from their sums. */
static void collect(const Map *map, float *to, const int64_t *strides) {
    const int64_t *side = map->extent.side;
    const float *from = map->sums;
    const __m512i places = _mm512_slli_epi32(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)order)), 4); /* it is its own inverse */
    for (int64_t place = 0; place < places_of(&map->extent); place++)
        for (int64_t j = 0; j < map->in; j++)
            for (int64_t k = 0; k < map->made; k++, from += SQUARE) {
                int64_t c = place % side[2], b = place / side[2] % side[1], a = place / side[2] / side[1];
                float *goal = to + k * LANES * strides[0] + j * LANES * strides[1] + a * strides[2] + b * strides[3] + c * strides[4];
                for (int row = 0; row < LANES; row++, goal += strides[0]) {
                    __m512 values = _mm512_i32gather_ps(places, from + row, sizeof(float));
                    if (strides[1] == 1)
                        _mm512_storeu_ps(goal, values);
                    else
                        for (int lane = 0; lane < LANES; lane++) goal[lane * strides[1]] = values[lane];
                }
            }
}

/* The gradient of the weights (made, in, *sides), float32, `strides` apart, from the maps `fine` (B, *fine, in) and `coarse`
   (B, *coarse, made), one of which is a gradient; `extent` as for `direct_down`. In `bias` the sums of the channels of the coarse map, or
   with `raised` of the fine one, where every voxel of it is seen once. `done` is 0 where there was no memory. */
void direct_gradient(const uint16_t *fine, const uint16_t *coarse, float *weights, const int64_t *strides, float *bias,
                     const int64_t *extent, int64_t in, int64_t made, int64_t raised, int64_t threads, int64_t *done) {
    Map map = {.fine = fine, .coarse = coarse, .in = in / LANES, .made = made / LANES};
    memcpy(&map.extent, extent, sizeof map.extent);
    int64_t units = places_of(&map.extent) * map.in, voxels = map.extent.coarse[1] * map.extent.coarse[2];
    map.strips = (voxels + STRIP - 1) / STRIP;
    map.pairs = ((voxels + map.strips - 1) / map.strips + 1) / 2;
    map.planes = STRIP / (map.pairs * 2) > 1 ? STRIP / (map.pairs * 2) : 1;
    map.sums = aligned_alloc(64, (units * map.made * SQUARE + (raised ? units : map.made) * LANES) * sizeof(float));
    *done = 0;
    if (!map.sums) return;
    float *more = map.sums + units * map.made * SQUARE;
    memset(map.sums, 0, (units * map.made * SQUARE + (raised ? units : map.made) * LANES) * sizeof(float));
    if (raised)
        map.fine_sums = more;
    else
        map.coarse_sums = more;
    in_shares(share, &map, units, threads);
    collect(&map, weights, strides);
    for (int64_t k = 0; k < (raised ? in : made); k++) {
        bias[k] = 0;
        for (int64_t place = 0; place < (raised ? places_of(&map.extent) : 1); place++) bias[k] += more[place * in + (raised ? k - k % LANES + order[k % LANES] : k)];
    }
    free(map.sums);
    *done = !map.lacking;
}
#endif
