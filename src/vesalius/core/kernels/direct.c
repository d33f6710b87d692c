/* Convolutions as they are, product by product, on processors that multiply bf16: for steps of two, for maps too small for minimal filtering
   (winograd.c), and for transposed convolutions (nets/_direct.py).

   Up to 28 voxels are worked on at once, 16 channels of each in a register. What they see is read where it lies if it lies near, and else
   copied side by side first, in blocks of 16 channels: (block, voxel, 16), zeros where it is beyond the map. */
#if defined(__AVX512BF16__) && defined(__AVX512BW__) && defined(__AVX512VL__)
#include "direct.h"
#include "parallel.h"
#include <stdlib.h>

enum { NEAR = 64, FEW = 14 }; /* values between voxels that are read where they lie; voxels in a row, from which on they are */

typedef struct {
    const uint16_t *from, *weights;
    const float *bias;
    uint16_t *to;
    Extent extent;
    int64_t in, made, places;             /* channels in blocks of 16 */
    int64_t tiles, across, rows, columns; /* `direct_up`: tiles in a row of tiles; rows and columns of the grid of blocks */
    int64_t tall, wide;                   /* rows of a tile, voxels of its widest row */
    int64_t apart, by_rows;               /* values from a voxel to the next where products are taken; whether tiles are of one row */
    int32_t lacking;                      /* whether there was no memory: set by any thread */
} Map;

typedef struct {
    const uint16_t **v, **u; /* voxels (count, 16) and their weights (8 pairs, 16, 2), for each block that counts */
    int64_t *which;          /* the number of the block among the weights */
    int64_t blocks;
} List;

/* Adds to sums (count, 16): 16 channels of `count` voxels at `v`, `apart`, by the weights (8 pairs, 16, 2) at `u`. */
static inline __attribute__((always_inline)) void multiply(__m512 *sums, const uint16_t *v, const uint16_t *u, int apart, int count) {
#pragma GCC unroll 8
    for (int pair = 0; pair < PAIRS; pair++) {
        __m512bh weights = (__m512bh)_mm512_load_si512(u + pair * 2 * LANES);
#pragma GCC unroll 28
        for (int t = 0; t < count; t++) sums[t] = _mm512_dpbf16_ps(sums[t], weights, everywhere(v + t * apart + 2 * pair));
    }
}

typedef struct {
    uint16_t *const *to; /* where the voxels lie, and their channels from which on */
    int64_t channel;
    __m512 bias;
} Goal;

static inline __attribute__((always_inline)) void some(const List *of, const Goal *goal, int apart, int count) {
    __m512 sums[MOST];
#pragma GCC unroll 28
    for (int t = 0; t < count; t++) sums[t] = goal->bias;
    for (int64_t n = 0; n < of->blocks; n++) multiply(sums, of->v[n], of->u[n], apart, count);
#pragma GCC unroll 28
    for (int t = 0; t < count; t++) _mm256_storeu_si256((__m256i *)(goal->to[t] + goal->channel), (__m256i)_mm512_cvtneps_pbh(sums[t]));
}

/* 16 channels of 1 ... 28 voxels by all blocks, which are read from voxels that lie `apart`. */
#define CASE(n) case n: some(of, goal, APART, n); break;
#define CASES(name) \
    static void name(const List *of, const Goal *goal, int64_t count) { \
        switch (count) { \
            CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6) CASE(7) CASE(8) CASE(9) CASE(10) CASE(11) CASE(12) CASE(13) CASE(14) \
            CASE(15) CASE(16) CASE(17) CASE(18) CASE(19) CASE(20) CASE(21) CASE(22) CASE(23) CASE(24) CASE(25) CASE(26) CASE(27) CASE(28) \
        } \
    }
#define APART 16
CASES(side_by_side)
#undef APART
#define APART 32
CASES(second)
#undef APART
#define APART 64
CASES(fourth)

/* All channels of `count` voxels that lie at `to` by what is in the list, which is emptied. */
static void channels(const Map *map, List *list, uint16_t *const *to, int64_t apart, int64_t count) {
    for (int64_t k = 0; k < map->made; k++) {
        Goal goal = {to, k * LANES, map->bias ? _mm512_loadu_ps(map->bias + k * LANES) : _mm512_setzero_ps()};
        const uint16_t *weights = map->weights + k * map->places * map->in * SQUARE;
        for (int64_t n = 0; n < list->blocks; n++) list->u[n] = weights + list->which[n] * SQUARE;
        (apart == 16 ? side_by_side : apart == 32 ? second : fourth)(list, &goal, count);
    }
    list->blocks = 0;
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
    uint16_t *copied, *beyond; /* what voxels see; where results go that are of no voxel */
} Room;

/* For lists of so many blocks, and so many blocks of copied values. */
static int room_of(const Map *map, int64_t blocks, int64_t copied, Room *room) {
    room->list.blocks = 0;
    room->list.v = malloc(blocks * sizeof(uint16_t *));
    room->list.u = malloc(blocks * sizeof(uint16_t *));
    room->list.which = malloc(blocks * sizeof(int64_t));
    room->copied = aligned_alloc(64, (copied + 1) / 2 * 2 * LANES * sizeof(uint16_t));
    room->beyond = malloc(map->made * LANES * sizeof(uint16_t));
    return room->list.v && room->list.u && room->list.which && room->copied && room->beyond;
}

static void no_room(Room *room) {
    free(room->list.v);
    free(room->list.u);
    free(room->list.which);
    free(room->copied);
    free(room->beyond);
}

/* 16 channels of `count` voxels, `step` values from one to the next here and `apart` there. */
static inline void copy(const uint16_t *from, int64_t step, int64_t count, int64_t apart, uint16_t *to) {
    for (int64_t t = 0; t < count; t++, from += step, to += apart)
        _mm256_store_si256((__m256i *)to, _mm256_loadu_si256((const __m256i *)from));
}

/* 16 channels of the voxels of a fine row that `count` coarse ones from number `first` see at a place of the kernel, zeros beyond it. */
static void gather(const Map *map, const uint16_t *row, int64_t place, int64_t first, int64_t count, uint16_t *to) {
    const Extent *extent = &map->extent;
    int64_t step = extent->step[2], away = place - extent->pad[2], width = map->in * LANES, last = first + count;
    int64_t from = away < 0 ? (step - 1 - away) / step : 0, end = (extent->fine[2] - 1 - away + step) / step; /* that see a voxel */
    from = !row || from > last ? last : from > first ? from : first;
    end = end > last ? last : end > from ? end : from;
    copy(zeros, 0, from - first, map->apart, to);
    if (end > from) copy(row + (from * step + away) * width, step * width, end - from, map->apart, to + (from - first) * map->apart);
    copy(zeros, 0, last - end, map->apart, to + (end - first) * map->apart);
}

/* Asks for `bytes` of memory that will be written, and of such that will be read. */
static void ask(const uint16_t *to, int64_t bytes) {
    for (int64_t at = 0; at < bytes; at += 64) __builtin_prefetch((const char *)to + at, 1);
}

static void expect(uintptr_t from, int64_t bytes) {
    for (int64_t at = 0; at < bytes; at += 64) _mm_prefetch((const char *)(from + (uintptr_t)at), _MM_HINT_T1);
}

typedef struct {
    int64_t sample, z, first, count; /* voxels of a plane of the coarse map */
} Some;

/* What they see at a place of the kernel in the fine plane `from`, copied: (blocks, count, 16), or voxels `apart`. */
static void copy_seen(const Map *map, const Some *some, const uint16_t *from, int64_t place, uint16_t *to) {
    const Extent *extent = &map->extent;
    int64_t width = extent->coarse[2], end = some->first + some->count, block = map->by_rows ? LANES : some->count * LANES;
    for (int64_t t = some->first, next; t < end; t = next) {
        next = (t / width + 1) * width < end ? (t / width + 1) * width : end; /* of those in this row */
        int64_t row = seen(extent, 1, t / width, place / extent->side[2]);
        const uint16_t *at = row < 0 ? 0 : from + row * extent->fine[2] * map->in * LANES;
        for (int64_t b = 0; b < map->in; b++)
            gather(map, at ? at + b * LANES : 0, place % extent->side[2], t % width, next - t, to + (t - some->first) * map->apart + b * block);
    }
}

/* Where they lie in the fine plane `from`; 0 where they do not lie as far apart as products are taken. */
static const uint16_t *where_seen(const Map *map, const Some *some, const uint16_t *from, int64_t place) {
    const Extent *extent = &map->extent;
    int64_t y = some->first / extent->coarse[2], x = some->first % extent->coarse[2], column = place % extent->side[2];
    int64_t row = seen(extent, 1, y, place / extent->side[2]), first = seen(extent, 2, x, column);
    if (!map->by_rows || first < 0 || seen(extent, 2, x + some->count - 1, column) < 0) return 0;
    return from + (row * extent->fine[2] + first) * map->in * LANES;
}

static void down(const Map *map, const Some *some, Room *room) {
    const Extent *extent = &map->extent;
    int64_t flat = extent->side[1] * extent->side[2], plane = extent->fine[1] * extent->fine[2] * map->in * LANES;
    int64_t start = (some->sample * extent->coarse[0] + some->z) * extent->coarse[1] * extent->coarse[2] + some->first;
    uintptr_t ahead = extent->step[1] * extent->fine[2] * map->in * sizeof zeros; /* the next row */
    uint16_t *to[MOST], *copied = room->copied;
    for (int64_t t = 0; t < some->count; t++) to[t] = map->to + (start + t) * map->made * LANES;
    ask(to[0], some->count * map->made * (int64_t)sizeof zeros);
    for (int64_t tap = 0; tap < extent->side[0]; tap++) {
        int64_t depth = seen(extent, 0, some->z, tap);
        if (depth < 0) continue;
        const uint16_t *from = map->from + (some->sample * extent->fine[0] + depth) * plane;
        for (int64_t place = 0; place < flat; place++) {
            if (map->by_rows && seen(extent, 1, some->first / extent->coarse[2], place / extent->side[2]) < 0) continue;
            const uint16_t *at = where_seen(map, some, from, place);
            if (at && place % extent->side[2] == 1) expect((uintptr_t)at + ahead, some->count * extent->step[2] * map->in * (int64_t)sizeof zeros);
            if (!at) {
                copy_seen(map, some, from, place, copied);
                at = copied;
                copied += map->in * some->count * LANES > map->apart * some->count ? map->in * some->count * LANES : map->apart * some->count;
            }
            listed(&room->list, at, map->by_rows ? LANES : some->count * LANES, map->in, (tap * flat + place) * map->in);
        }
    }
    channels(map, &room->list, to, map->apart, some->count);
}

static void share_down(void *of, int64_t first, int64_t end) {
    Map *map = of;
    Room room;
    int ready = room_of(map, map->places * map->in, map->places * MOST * (map->apart > map->in * LANES ? map->apart / LANES : map->in), &room);
    if (!ready) __atomic_store_n(&map->lacking, 1, __ATOMIC_RELAXED);
    int64_t rows = map->by_rows ? map->extent.coarse[1] : 1, voxels = map->extent.coarse[1] * map->extent.coarse[2] / rows;
    for (int64_t k = first; k < end && ready; k++) {
        int64_t tile = k % map->tiles, row = k / map->tiles % rows, plane = k / map->tiles / rows, from = voxels * tile / map->tiles;
        Some some = {plane / map->extent.coarse[0], plane % map->extent.coarse[0], row * voxels + from, voxels * (tile + 1) / map->tiles - from};
        down(map, &some, &room);
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
    int64_t width = map.extent.coarse[2], apart = in * map.extent.step[2], across = (width + MOST - 1) / MOST;
    map.by_rows = apart <= NEAR && NEAR % apart == 0 && width / across >= FEW;
    map.apart = map.by_rows ? apart : LANES;
    map.tiles = ((map.by_rows ? width : map.extent.coarse[1] * width) + MOST - 1) / MOST;
    in_shares(share_down, &map, map.extent.batch * map.extent.coarse[0] * (map.by_rows ? map.extent.coarse[1] : 1) * map.tiles, threads);
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

/* The same for all axes and voxels of a block, and how far they are away at least and at most along each axis. */
typedef struct {
    Seers seers[3][2];
    int64_t least[3], span[3];
} Reach;

static Reach reach_of(const Extent *extent) {
    Reach reach = {.span = {1, 1, 1}};
    for (int axis = 0; axis < 3; axis++) {
        int64_t most = 0;
        for (int64_t inside = 0; inside < extent->step[axis]; inside++) {
            Seers *seers = &reach.seers[axis][inside];
            *seers = seers_of(extent, axis, inside);
            for (int64_t k = 0; k < seers->count; k++) {
                int64_t away = seers->away[k];
                reach.least[axis] = away < reach.least[axis] ? away : reach.least[axis];
                most = away > most ? away : most;
            }
        }
        reach.span[axis] = most - reach.least[axis] + 1;
    }
    return reach;
}

typedef struct {
    int64_t sample, z, top, bottom, left, right; /* blocks */
    int64_t stride, count;                       /* voxels from one row to the next, and in all, rests of rows included */
    int64_t block, plane;                        /* copied values from block to block and plane to plane */
} Tile;

/* A row of coarse voxels, from number `x` on, as (blocks of channels, voxels, 16), `apart` from block to block; zeros beyond the map. */
static void copy_row(const Map *map, const uint16_t *row, int64_t x, int64_t voxels, int64_t apart, uint16_t *to) {
    int64_t width = map->in * LANES, side = row ? map->extent.coarse[2] : 0, before = x < 0 ? -x : 0;
    before = before < voxels ? before : voxels;
    int64_t in = side - x - before < voxels - before ? side - x - before : voxels - before;
    in = in < 0 || !row ? 0 : in;
    for (int64_t b = 0; b < map->in; b++, to += apart) {
        copy(zeros, 0, before, LANES, to);
        if (in) copy(row + (x + before) * width + b * LANES, width, in, LANES, to + before * LANES);
        copy(zeros, 0, voxels - before - in, LANES, to + (before + in) * LANES);
    }
}

/* All coarse voxels that see a tile of blocks: (planes, blocks of channels, rows, voxels, 16). */
static void around(const Map *map, const Tile *tile, const Reach *reach, uint16_t *to) {
    const int64_t *coarse = map->extent.coarse;
    for (int64_t plane = 0; plane < reach->span[0]; plane++)
        for (int64_t row = 0; row < tile->bottom - tile->top + reach->span[1] - 1; row++) {
            int64_t z = tile->z + plane + reach->least[0], y = tile->top + row + reach->least[1];
            int in = z >= 0 && z < coarse[0] && y >= 0 && y < coarse[1];
            const uint16_t *from = map->from + ((tile->sample * coarse[0] + z) * coarse[1] + y) * coarse[2] * map->in * LANES;
            uint16_t *goal = to + plane * tile->plane + row * tile->stride * LANES;
            copy_row(map, in ? from : 0, tile->left + reach->least[2], tile->stride, tile->block, goal);
        }
}

/* Where the voxels `inside` the blocks of a tile lie. */
static void goals(const Map *map, const Tile *tile, const int64_t *inside, uint16_t *beyond, uint16_t **to) {
    const int64_t *fine = map->extent.fine, *step = map->extent.step;
    int64_t width = map->made * LANES, plane = tile->sample * fine[0] + tile->z * step[0] + inside[0];
    for (int64_t t = 0; t < tile->count; t++) to[t] = beyond;
    for (int64_t y = tile->top; y < tile->bottom && y * step[1] + inside[1] < fine[1]; y++, to += tile->stride) {
        uint16_t *at = map->to + ((plane * fine[1] + y * step[1] + inside[1]) * fine[2] + tile->left * step[2] + inside[2]) * width;
        int64_t voxels = (fine[2] - inside[2] + step[2] - 1) / step[2]; /* of the row */
        voxels = (voxels < tile->right ? voxels : tile->right) - tile->left;
        for (int64_t x = 0; x < voxels; x++, at += step[2] * width) {
            to[x] = at;
            __builtin_prefetch(at, 1); /* is written behind the products */
        }
    }
}

/* The voxels `inside` the blocks of a tile. */
static void up(const Map *map, const Tile *tile, const Reach *reach, const int64_t *inside, Room *room) {
    const Extent *extent = &map->extent;
    uint16_t *to[MOST];
    const Seers *seers[3];
    for (int axis = 0; axis < 3; axis++) seers[axis] = &reach->seers[axis][inside[axis]];
    for (int64_t a = 0; a < seers[0]->count; a++) {
        int64_t depth = tile->z + seers[0]->away[a];
        if (depth < 0 || depth >= extent->coarse[0]) continue;
        for (int64_t b = 0; b < seers[1]->count; b++)
            for (int64_t c = 0; c < seers[2]->count; c++) {
                int64_t row = seers[1]->away[b] - reach->least[1], column = seers[2]->away[c] - reach->least[2];
                int64_t place = (seers[0]->place[a] * extent->side[1] + seers[1]->place[b]) * extent->side[2] + seers[2]->place[c];
                const uint16_t *from = room->copied + (seers[0]->away[a] - reach->least[0]) * tile->plane;
                listed(&room->list, from + (row * tile->stride + column) * LANES, tile->block, map->in, place * map->in);
            }
    }
    goals(map, tile, inside, room->beyond, to);
    channels(map, &room->list, to, LANES, tile->count);
}

/* Tile number `k` of all. */
static Tile tile_of(const Map *map, const Reach *reach, int64_t k) {
    const Extent *extent = &map->extent;
    int64_t planes = (extent->fine[0] + extent->step[0] - 1) / extent->step[0], tile = k % map->tiles;
    int64_t row = tile / map->across * map->tall, column = tile % map->across;
    Tile found = {.sample = k / map->tiles / planes, .z = k / map->tiles % planes, .top = row};
    found.bottom = row + map->tall < map->rows ? row + map->tall : map->rows;
    found.left = map->columns * column / map->across, found.right = map->columns * (column + 1) / map->across;
    found.stride = found.right - found.left + reach->span[2] - 1;
    found.count = (found.bottom - row - 1) * found.stride + found.right - found.left;
    found.block = found.stride * (found.bottom - row + reach->span[1] - 1) * LANES;
    found.plane = found.block * map->in;
    return found;
}

static void share_up(void *of, int64_t first, int64_t end) {
    Map *map = of;
    const int64_t *step = map->extent.step;
    Reach reach = reach_of(&map->extent);
    Room room;
    int64_t rows = map->tall + reach.span[1] - 1, wide = map->wide + reach.span[2] - 1;
    int ready = room_of(map, map->places * map->in, reach.span[0] * map->in * rows * wide, &room);
    if (!ready) __atomic_store_n(&map->lacking, 1, __ATOMIC_RELAXED);
    for (int64_t k = first; k < end && ready; k++) {
        Tile tile = tile_of(map, &reach, k);
        around(map, &tile, &reach, room.copied);
        for (int64_t n = 0; n < step[0] * step[1] * step[2]; n++) {
            int64_t inside[3] = {n / step[2] / step[1], n / step[2] % step[1], n % step[2]};
            if (tile.z * step[0] + inside[0] < map->extent.fine[0]) up(map, &tile, &reach, inside, &room);
        }
    }
    no_room(&room);
}

/* The fine map `to` (B, *fine, made) of the coarse map `from` (B, *coarse, in): a transposed convolution, or the gradient of the input of
   a convolution; everything else as for `direct_down`. Steps are 1 or 2, kernels have at most 3 places along an axis. */
void direct_up(const uint16_t *from, const uint16_t *weights, const float *bias, uint16_t *to, const int64_t *extent, int64_t in,
               int64_t made, int64_t threads, int64_t *done) {
    Map map = {.from = from, .weights = weights, .bias = bias, .to = to, .in = in / LANES, .made = made / LANES};
    memcpy(&map.extent, extent, sizeof map.extent);
    Reach reach = reach_of(&map.extent);
    map.places = places_of(&map.extent);
    map.rows = (map.extent.fine[1] + map.extent.step[1] - 1) / map.extent.step[1];
    map.columns = (map.extent.fine[2] + map.extent.step[2] - 1) / map.extent.step[2];
    map.across = (map.columns + MOST - 1) / MOST;
    map.wide = (map.columns + map.across - 1) / map.across;
    map.tall = map.across > 1 ? 1 : (MOST - map.wide) / (map.wide + reach.span[2] - 1) + 1;
    map.tiles = map.across * ((map.rows + map.tall - 1) / map.tall);
    int64_t planes = (map.extent.fine[0] + map.extent.step[0] - 1) / map.extent.step[0];
    in_shares(share_up, &map, map.extent.batch * planes * map.tiles, threads);
    *done = !map.lacking;
}
#endif
