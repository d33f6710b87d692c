/* Convolutions as they are, product by product, on processors that multiply bf16: for steps of two, for maps too small for minimal filtering
   (winograd.c), and for transposed convolutions (nets/_direct.py).

   Up to 28 voxels are worked on at once, 16 channels of each in a register. What they see is copied side by side first, in blocks of
   16 channels: (block, voxel, 16), zeros where it is beyond the map. Copying is one step for 8 products and more. */
#if defined(__AVX512BF16__) && defined(__AVX512BW__) && defined(__AVX512VL__)
#include "direct.h"
#include "parallel.h"
#include <stdlib.h>

enum { GROUP = 12 }; /* blocks that are copied before they are multiplied, so that both stay in the nearest cache */

typedef struct {
    const uint16_t *from, *weights;
    const float *bias;
    uint16_t *to;
    Extent extent;
    int64_t in, made, places;             /* channels in blocks of 16 */
    int64_t tiles, across, rows, columns; /* `direct_up`: tiles in a row of tiles; rows and columns of the grid of blocks */
    int64_t tall, wide;                   /* rows of a tile, voxels of its widest row */
    int32_t lacking;                      /* whether there was no memory: set by any thread */
} Map;

typedef struct {
    const uint16_t **v, **u; /* voxels (count, 16) and their weights (8 pairs, 16, 2), for each block that counts */
    int64_t *which;          /* the number of the block among the weights */
    int64_t blocks;
} List;

/* Adds to sums (count, 16): 16 channels of `count` voxels at `v` by the weights (8 pairs, 16, 2) at `u`. */
static inline __attribute__((always_inline)) void multiply(__m512 *sums, const uint16_t *v, const uint16_t *u, int count) {
#pragma GCC unroll 8
    for (int pair = 0; pair < PAIRS; pair++) {
        __m512bh weights = (__m512bh)_mm512_load_si512(u + pair * 2 * LANES);
#pragma GCC unroll 28
        for (int t = 0; t < count; t++) sums[t] = _mm512_dpbf16_ps(sums[t], weights, everywhere(v + t * LANES + 2 * pair));
    }
}

static inline __attribute__((always_inline)) void some(const List *of, float *to, int count) {
    __m512 sums[MOST];
#pragma GCC unroll 28
    for (int t = 0; t < count; t++) sums[t] = _mm512_load_ps(to + t * LANES);
    for (int64_t n = 0; n < of->blocks; n++) multiply(sums, of->v[n], of->u[n], count);
#pragma GCC unroll 28
    for (int t = 0; t < count; t++) _mm512_store_ps(to + t * LANES, sums[t]);
}

/* Adds what all blocks give to the sums (count, 16) of 1 ... 28 voxels. */
static void products(const List *of, float *to, int64_t count) {
    switch (count) {
#define CASE(n) case n: some(of, to, n); break;
        CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6) CASE(7) CASE(8) CASE(9) CASE(10) CASE(11) CASE(12) CASE(13) CASE(14)
        CASE(15) CASE(16) CASE(17) CASE(18) CASE(19) CASE(20) CASE(21) CASE(22) CASE(23) CASE(24) CASE(25) CASE(26) CASE(27) CASE(28)
#undef CASE
    }
}

/* Some blocks that count: those of a copied voxel at one place of the kernel. */
static inline void listed(List *list, const uint16_t *from, int64_t step, int64_t blocks, int64_t which) {
    for (int64_t b = 0; b < blocks; b++) {
        list->v[list->blocks] = from + b * step;
        list->which[list->blocks++] = which + b;
    }
}

typedef struct {
    List list;
    uint16_t *copied; /* what voxels see */
    float *sums;      /* (made, voxels, 16) */
    int32_t *seen;
} Room;

static int room_of(const Map *map, int64_t blocks, int64_t voxels, Room *room) {
    room->list.blocks = 0;
    room->list.v = malloc(blocks * sizeof(uint16_t *));
    room->list.u = malloc(blocks * sizeof(uint16_t *));
    room->list.which = malloc(blocks * sizeof(int64_t));
    room->copied = aligned_alloc(64, (blocks * voxels + 1) / 2 * 2 * LANES * sizeof(uint16_t));
    room->sums = aligned_alloc(64, map->made * MOST * LANES * sizeof(float));
    room->seen = malloc(map->extent.side[1] * map->extent.side[2] * map->extent.coarse[1] * map->extent.coarse[2] * sizeof(int32_t));
    return room->list.v && room->list.u && room->list.which && room->copied && room->sums && room->seen;
}

static void no_room(Room *room) {
    free(room->list.v);
    free(room->list.u);
    free(room->list.which);
    free(room->copied);
    free(room->sums);
    free(room->seen);
}

/* The bias in the sums of all channels of `count` voxels. */
static void begin(const Map *map, Room *room, int64_t count) {
    for (int64_t k = 0; k < map->made; k++) {
        __m512 bias = map->bias ? _mm512_loadu_ps(map->bias + k * LANES) : _mm512_setzero_ps();
        for (int64_t t = 0; t < count; t++) _mm512_store_ps(room->sums + (k * count + t) * LANES, bias);
    }
}

/* Adds to all channels what the blocks in the list give, and empties it. */
static void add(const Map *map, Room *room, int64_t count) {
    List *list = &room->list;
    for (int64_t k = 0; k < map->made; k++) {
        const uint16_t *weights = map->weights + k * map->places * map->in * SQUARE;
        for (int64_t n = 0; n < list->blocks; n++) list->u[n] = weights + list->which[n] * SQUARE;
        products(list, room->sums + k * count * LANES, count);
    }
    list->blocks = 0;
}

/* All channels of some voxels, from number `first` of `count`, `step` apart at `to`. */
static void end_row(const Map *map, const Room *room, int64_t count, int64_t first, int64_t voxels, int64_t step, uint16_t *to) {
    for (int64_t k = 0; k < map->made; k++) {
        const float *sums = room->sums + (k * count + first) * LANES;
        for (int64_t t = 0; t < voxels; t++)
            _mm256_storeu_si256((__m256i *)(to + t * step + k * LANES), (__m256i)_mm512_cvtneps_pbh(_mm512_load_ps(sums + t * LANES)));
    }
}

/* 16 channels of `count` voxels of `width` channels whose numbers are given: (count, 16). Memory `ahead` of them is asked for. */
static void gather(const uint16_t *from, const int32_t *where, int64_t width, int64_t ahead, int64_t count, uint16_t *to) {
    for (int64_t t = 0; t < count; t++, to += LANES) {
        const uint16_t *at = where[t] < 0 ? zeros : from + where[t] * width;
        _mm256_store_si256((__m256i *)to, _mm256_loadu_si256((const __m256i *)at));
        _mm_prefetch((const char *)((uintptr_t)at + (uintptr_t)ahead), _MM_HINT_T1);
    }
}

/* Asks for `bytes` of memory that will be written. */
static void ask(const uint16_t *to, int64_t bytes) {
    for (int64_t at = 0; at < bytes; at += 64) __builtin_prefetch((const char *)to + at, 1);
}

/* Some voxels of a plane of a sample of the coarse map, from number `first` of the plane. */
static void down(const Map *map, int64_t sample, int64_t z, int64_t first, int64_t count, Room *room) {
    const Extent *extent = &map->extent;
    int64_t flat = extent->side[1] * extent->side[2], width = map->in * LANES, plane = extent->fine[1] * extent->fine[2] * width;
    int64_t voxels = extent->coarse[1] * extent->coarse[2], start = (sample * extent->coarse[0] + z) * voxels + first;
    int64_t ahead = extent->step[1] * extent->fine[2] * width * (int64_t)sizeof(uint16_t); /* the next row */
    uint16_t *to = map->to + start * map->made * LANES;
    ask(to, count * map->made * (int64_t)sizeof zeros);
    begin(map, room, count);
    for (int64_t tap = 0; tap < extent->side[0]; tap++) {
        int64_t depth = seen(extent, 0, z, tap);
        if (depth < 0) continue;
        const uint16_t *from = map->from + (sample * extent->fine[0] + depth) * plane;
        for (int64_t place = 0; place < flat; place++) {
            uint16_t *copied = room->copied + room->list.blocks * count * LANES;
            for (int64_t b = 0; b < map->in; b++)
                gather(from + b * LANES, room->seen + place * voxels + first, width, ahead, count, copied + b * count * LANES);
            listed(&room->list, copied, count * LANES, map->in, (tap * flat + place) * map->in);
            if (room->list.blocks + map->in > GROUP) add(map, room, count);
        }
    }
    add(map, room, count);
    end_row(map, room, count, 0, count, map->made * LANES, to);
}

static void share_down(void *of, int64_t first, int64_t end) {
    Map *map = of;
    Room room;
    int ready = room_of(map, map->in > GROUP ? map->in : GROUP, MOST, &room);
    if (!ready) __atomic_store_n(&map->lacking, 1, __ATOMIC_RELAXED);
    int64_t voxels = map->extent.coarse[1] * map->extent.coarse[2];
    if (ready) seen_in_plane(&map->extent, 0, voxels, room.seen);
    for (int64_t k = first; k < end && ready; k++) {
        int64_t tile = k % map->tiles, from = voxels * tile / map->tiles, to = voxels * (tile + 1) / map->tiles, plane = k / map->tiles;
        down(map, plane / map->extent.coarse[0], plane % map->extent.coarse[0], from, to - from, &room);
    }
    no_room(&room);
}

/* The coarse map `to` (B, *coarse, made) of the fine map `from` (B, *fine, in) by `weights` as `direct_weights` gives them, and a bias or
   none. `extent`: batch, and along each of three axes the fine sides, the coarse ones, those of the kernel, its steps, and zeros before
   the map. `done` is 0 where there was no memory. */
void direct_down(const uint16_t *from, const uint16_t *weights, const float *bias, uint16_t *to, const int64_t *extent, int64_t in,
                 int64_t made, int64_t threads, int64_t *done) {
    Map map = {.from = from, .weights = weights, .bias = bias, .to = to, .in = in / LANES, .made = made / LANES};
    memcpy(&map.extent, extent, sizeof map.extent);
    map.places = places_of(&map.extent);
    map.tiles = (map.extent.coarse[1] * map.extent.coarse[2] + MOST - 1) / MOST;
    in_shares(share_down, &map, map.extent.batch * map.extent.coarse[0] * map.tiles, threads);
    *done = !map.lacking;
}

/* Fine voxels `inside` of a block of as many as the step are seen by the coarse voxels `number of the block + away` at places of the
   kernel. */
typedef struct {
    int64_t count, place[3], away[3];
} Seers;

static Seers seers_of(const Extent *extent, int axis, int64_t inside) {
    Seers found = {0};
    for (int64_t place = 0; place < extent->side[axis]; place++) {
        int64_t apart = inside + extent->pad[axis] - place;
        if (apart % extent->step[axis]) continue;
        found.place[found.count] = place;
        found.away[found.count++] = apart / extent->step[axis];
    }
    return found;
}

/* How far coarse voxels that see a block are away at least and at most along the last axis. */
static void reach(const Extent *extent, int64_t *least, int64_t *most) {
    *least = *most = 0;
    for (int64_t inside = 0; inside < extent->step[2]; inside++) {
        Seers seers = seers_of(extent, 2, inside);
        for (int64_t k = 0; k < seers.count; k++) {
            *least = seers.away[k] < *least ? seers.away[k] : *least;
            *most = seers.away[k] > *most ? seers.away[k] : *most;
        }
    }
}

typedef struct {
    int64_t sample, z, top, bottom, left, right; /* blocks */
    int64_t least, stride, count;                /* voxels from one row to the next, and in all, rests of rows included */
} Tile;

/* A row of coarse voxels, from number `x` on, as (blocks of channels, voxels, 16), `apart` from block to block; zeros beyond the map. */
static void copy_row(const Map *map, const uint16_t *row, int64_t x, int64_t voxels, int64_t apart, uint16_t *to) {
    int64_t width = map->in * LANES, side = row ? map->extent.coarse[2] : 0;
    for (int64_t b = 0; b < map->in; b++)
        for (int64_t k = 0; k < voxels; k++) {
            const uint16_t *at = x + k >= 0 && x + k < side ? row + (x + k) * width + b * LANES : zeros;
            _mm256_store_si256((__m256i *)(to + b * apart + k * LANES), _mm256_loadu_si256((const __m256i *)at));
        }
}

/* Coarse voxels around the blocks of a tile, `away` planes and rows: (blocks of channels, voxels, 16). */
static void around(const Map *map, const Tile *tile, int64_t planes, int64_t rows, uint16_t *to) {
    const int64_t *coarse = map->extent.coarse;
    int64_t z = tile->z + planes, apart = tile->stride * (tile->bottom - tile->top) * LANES;
    for (int64_t y = tile->top + rows; y < tile->bottom + rows; y++, to += tile->stride * LANES) {
        int in = z >= 0 && z < coarse[0] && y >= 0 && y < coarse[1];
        const uint16_t *row = map->from + ((tile->sample * coarse[0] + z) * coarse[1] + y) * coarse[2] * map->in * LANES;
        copy_row(map, in ? row : 0, tile->left + tile->least, tile->stride, apart, to);
    }
}

/* The voxels `inside` the blocks of a tile, from their sums; without sums, their memory is asked for. */
static void end_tile(const Map *map, const Tile *tile, const int64_t *inside, const Room *room) {
    const int64_t *fine = map->extent.fine, *step = map->extent.step;
    int64_t width = map->made * LANES, a = tile->z * step[0] + inside[0], c = tile->left * step[2] + inside[2];
    int64_t last = (fine[2] - inside[2] + step[2] - 1) / step[2]; /* blocks that have such a voxel */
    int64_t voxels = (tile->right < last ? tile->right : last) - tile->left;
    for (int64_t y = tile->top; y < tile->bottom; y++) {
        int64_t row = y * step[1] + inside[1];
        if (row >= fine[1]) break;
        uint16_t *to = map->to + (((tile->sample * fine[0] + a) * fine[1] + row) * fine[2] + c) * width;
        if (room)
            end_row(map, room, tile->count, (y - tile->top) * tile->stride, voxels, step[2] * width, to);
        else
            ask(to, voxels * step[2] * width * (int64_t)sizeof(uint16_t));
    }
}

/* The voxels of a tile that are in planes and rows `inside` of their blocks. */
static void up(const Map *map, const Tile *tile, int64_t *inside, Room *room) {
    const Extent *extent = &map->extent;
    Seers planes = seers_of(extent, 0, inside[0]), rows = seers_of(extent, 1, inside[1]);
    int64_t voxels = tile->stride * (tile->bottom - tile->top), size = map->in * voxels * LANES;
    for (int64_t k = 0; k < planes.count * rows.count; k++)
        around(map, tile, planes.away[k / rows.count], rows.away[k % rows.count], room->copied + k * size);
    end_tile(map, tile, inside, 0);
    for (; inside[2] < extent->step[2]; inside[2]++) {
        Seers columns = seers_of(extent, 2, inside[2]);
        for (int64_t k = 0; k < planes.count * rows.count; k++) {
            int64_t depth = tile->z + planes.away[k / rows.count], row = planes.place[k / rows.count] * extent->side[1] + rows.place[k % rows.count];
            if (depth < 0 || depth >= extent->coarse[0]) continue;
            for (int64_t j = 0; j < columns.count; j++) {
                const uint16_t *from = room->copied + k * size + (columns.away[j] - tile->least) * LANES;
                listed(&room->list, from, voxels * LANES, map->in, (row * extent->side[2] + columns.place[j]) * map->in);
            }
        }
        begin(map, room, tile->count);
        add(map, room, tile->count);
        end_tile(map, tile, inside, room);
    }
}

static void share_up(void *of, int64_t first, int64_t end) {
    Map *map = of;
    const Extent *extent = &map->extent;
    Room room;
    int64_t planes = (extent->fine[0] + extent->step[0] - 1) / extent->step[0], least, most;
    reach(extent, &least, &most);
    int ready = room_of(map, map->places * map->in, map->tall * (map->wide + most - least), &room);
    if (!ready) __atomic_store_n(&map->lacking, 1, __ATOMIC_RELAXED);
    for (int64_t k = first; k < end && ready; k++) {
        int64_t tile = k % map->tiles, row = tile / map->across * map->tall, column = tile % map->across;
        Tile work = {.sample = k / map->tiles / planes, .z = k / map->tiles % planes, .top = row, .least = least};
        work.bottom = row + map->tall < map->rows ? row + map->tall : map->rows;
        work.left = map->columns * column / map->across, work.right = map->columns * (column + 1) / map->across;
        work.stride = work.right - work.left + most - least;
        work.count = (work.bottom - row - 1) * work.stride + work.right - work.left;
        for (int64_t inside = 0; inside < extent->step[0] * extent->step[1]; inside++) {
            int64_t at[3] = {inside / extent->step[1], inside % extent->step[1], 0};
            if (work.z * extent->step[0] + at[0] < extent->fine[0]) up(map, &work, at, &room);
        }
    }
    no_room(&room);
}

/* The fine map `to` (B, *fine, made) of the coarse map `from` (B, *coarse, in): a transposed convolution, or the gradient of the input of
   a convolution; everything else as for `direct_down`. Steps are 1 or 2, kernels have at most 3 places along an axis. */
void direct_up(const uint16_t *from, const uint16_t *weights, const float *bias, uint16_t *to, const int64_t *extent, int64_t in,
               int64_t made, int64_t threads, int64_t *done) {
    Map map = {.from = from, .weights = weights, .bias = bias, .to = to, .in = in / LANES, .made = made / LANES};
    int64_t least, most;
    memcpy(&map.extent, extent, sizeof map.extent);
    reach(&map.extent, &least, &most);
    map.places = places_of(&map.extent);
    map.rows = (map.extent.fine[1] + map.extent.step[1] - 1) / map.extent.step[1];
    map.columns = (map.extent.fine[2] + map.extent.step[2] - 1) / map.extent.step[2];
    map.across = (map.columns + MOST - 1) / MOST;
    map.wide = (map.columns + map.across - 1) / map.across;
    map.tall = map.across > 1 ? 1 : (MOST - map.wide) / (map.wide + most - least) + 1;
    map.tiles = map.across * ((map.rows + map.tall - 1) / map.tall);
    int64_t planes = (map.extent.fine[0] + map.extent.step[0] - 1) / map.extent.step[0];
    in_shares(share_up, &map, map.extent.batch * planes * map.tiles, threads);
    *done = !map.lacking;
}

/* 16 x 16 weights in float32, `apart` along both, as (8 pairs of the second, 16 of the first, 2) in bf16. */
static void square(const float *from, const int64_t *apart, uint16_t *to) {
    float lanes[LANES];
    uint32_t rows[LANES][PAIRS];
    __m256i halves[LANES];
    int near = apart[1] == 1 ? 1 : 0; /* the axis whose weights make a register */
    for (int k = 0; k < LANES; k++) {
        const float *row = from + k * apart[1 - near];
        for (int j = 0; j < LANES; j++) lanes[j] = row[j * apart[near]];
        halves[k] = (__m256i)_mm512_cvtneps_pbh(_mm512_loadu_ps(lanes));
    }
    if (!near) {
        for (int k = 0; k < LANES; k += 2) _mm512_storeu_si512(to + k * LANES, in_turn(halves[k], halves[k + 1]));
        return;
    }
    memcpy(rows, halves, sizeof rows);
    for (int k = 0; k < LANES; k++)
        for (int pair = 0; pair < PAIRS; pair++) memcpy(to + (pair * LANES + k) * 2, &rows[k][pair], sizeof(uint32_t));
}

/* Weights (made, in, *sides) in float32, `strides` apart, as (made / 16, places, in / 2, 16, 2) in bf16. */
void direct_weights(const float *weights, const int64_t *strides, uint16_t *to, int64_t made, int64_t in, const int64_t *extent) {
    Extent of;
    memcpy(&of, extent, sizeof of);
    for (int64_t k = 0; k < made; k += LANES)
        for (int64_t place = 0; place < places_of(&of); place++) {
            int64_t c = place % of.side[2], b = place / of.side[2] % of.side[1], a = place / of.side[2] / of.side[1];
            const float *from = weights + k * strides[0] + a * strides[2] + b * strides[3] + c * strides[4];
            for (int64_t j = 0; j < in; j += LANES, to += SQUARE) square(from + j * strides[1], strides, to);
        }
}
#endif
