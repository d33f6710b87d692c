/* The largest of many classes on a finer grid: which of them can be it in a cell of the coarse grid is told by the bits of their sums, and
   those alone are interpolated (engine/candidates.py says why, engine/cells.py calls). Sums are float16, not above 0 but for
   class 0 where tiles were skipped; they lie in parts along x or y (engine/parts.py), z together in memory; labels are uint8 (x, y, z).

   Cells go along z in segments of 32, the output voxels of a segment in blocks of LANES that a register holds. */
#include "lanes.h"
#include "parallel.h"
#include <stdlib.h>

#ifdef HAS_LANES
enum { SEGMENT = 32, MOST = 256, KEPT = 1 << 18 }; /* depths that stay in the cache of a core */
static const Half ZERO = 0x8000; /* the least of depths: negative zero */

typedef struct {
    const int64_t *cell; /* of every output voxel */
    const float *share;  /* how much of the further corner it takes; none where voxels are picked */
    int64_t first, stop; /* output voxels that are wanted */
    int64_t low, size;   /* coarse voxels that lie in memory: the first, and how many; along z alone */
    int64_t out;         /* from one output voxel to the next, in labels */
} Axis;

/* Where rows along z begin: for each place along x (or y, if `along_y`) that of y (or x) 0, and steps to the next and to the next class. */
typedef struct {
    const int64_t *address, *step, *classes;
    int64_t along_y;
} Parts;

typedef struct {
    int64_t first, count; /* output voxels */
    int64_t base;         /* first coarse voxel of the window */
    int64_t span;         /* coarse voxels of a window that would go beyond its row, else 0 */
    uint32_t cells;       /* which of the segment */
    int32_t place[LANES]; /* of the nearer corner in the window */
    float share[LANES];
} Block;

typedef struct {
    int64_t low; /* its first cell, counted from the first of all */
    int64_t first, stop; /* blocks */
    uint32_t cells;
} Segment;

typedef struct {
    Parts parts;
    uint8_t *labels;
    Axis x, y, z;
    int64_t classes;
    int64_t low, length; /* coarse voxels along z that are needed: the first, and how many */
    Segment *segments;
    Block *blocks;
    int64_t many; /* segments */
} Export;

/* The largest and the least depth (classes, rows, width) at the corners along x of the cells in row `x`, in the coarse rows `first` ... `stop`
   along y; and what a class must reach in the cells that come next. */
typedef struct {
    Half *most, *least, *bound;
    int64_t width, rows, x, first, stop;
} Depths;

typedef struct {
    int64_t number;
    uint32_t cells;
} Candidate;

typedef struct {
    int64_t x, y, first_x, stop_x, first_y, stop_y;
    const Half *corner[2][2]; /* where the rows of its corners begin */
    int64_t step[2][2];       /* from one class to the next */
} Cell;

static inline int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

/* Output voxels in `cell`, from `*first` on; cells do not fall. */
static int64_t of_cell(const Axis *axis, int64_t cell, int64_t *first) {
    int64_t low = axis->first, high = axis->stop;
    while (low < high) {
        int64_t middle = (low + high) / 2;
        if (axis->cell[middle] < cell) low = middle + 1;
        else high = middle;
    }
    *first = low;
    while (low < axis->stop && axis->cell[low] == cell) low++;
    return low;
}

/* The row along z at `x` and `y` of class 0, and how far it is to that of the next. */
static inline const Half *row_at(const Parts *parts, int64_t x, int64_t y, int64_t *step) {
    int64_t place = parts->along_y ? y : x, other = parts->along_y ? x : y;
    *step = parts->classes[place];
    return (const Half *)(uintptr_t)(parts->address[place] + other * parts->step[place] * (int64_t)sizeof(Half));
}

/* --- along z: segments and blocks --- */

static void block_of(const Axis *z, Block *block, int64_t low, int64_t stop) {
    int64_t reach = z->share != 0, start = z->cell[block->first], last = start, count = 0;
    while (count < LANES && block->first + count < stop && z->cell[block->first + count] - start < LANES)
        last = z->cell[block->first + count++];
    int64_t span = last - start + 1 + reach, base = start - z->low;
    int whole = z->size >= LANES + reach;
    block->count = count;
    block->span = whole ? 0 : span;
    block->base = whole ? smaller(base, z->size - LANES - reach) : base;
    block->cells = 0;
    for (int64_t k = 0; k < LANES; k++) {
        int64_t voxel = block->first + smaller(k, count - 1), cell = z->cell[voxel];
        block->place[k] = (int32_t)(cell - z->low - block->base);
        block->share[k] = reach ? z->share[voxel] : 0;
        block->cells |= (uint32_t)1 << (cell - low);
    }
}

static int along_z(Export *export) {
    const Axis *z = &export->z;
    int64_t count = z->stop - z->first, blocks = 0;
    export->low = z->cell[z->first];
    export->length = z->cell[z->stop - 1] + (z->share != 0) - export->low + 1;
    export->segments = malloc(count * sizeof(Segment));
    export->blocks = malloc(count * sizeof(Block));
    if (!export->segments || !export->blocks) return 0;
    for (int64_t voxel = z->first; voxel < z->stop;) {
        int64_t low = z->cell[voxel], stop = voxel;
        Segment *segment = &export->segments[export->many++];
        *segment = (Segment){low - export->low, blocks, blocks, 0};
        while (stop < z->stop && z->cell[stop] - low < SEGMENT) stop++;
        while (voxel < stop) {
            Block *block = &export->blocks[blocks++];
            block->first = voxel;
            block_of(z, block, low, stop);
            segment->cells |= block->cells;
            voxel += block->count;
        }
        segment->stop = blocks;
    }
    return 1;
}

/* --- which classes can be the largest --- */

/* The largest and the least of rows `a` and `b`. Other classes than the first are nowhere above 0; where the first is exactly 0, so are they. */
static void pooled(Half *restrict most, Half *restrict least, const Half *a, const Half *b, int64_t count, int first) {
    if (first)
        for (int64_t k = 0; k < count; k++) {
            Half p = a[k], q = b[k], more = p > q ? p : q;
            least[k] = p < q ? p : q;
            most[k] = p == 0 || q == 0 ? (more > ZERO ? more : ZERO) : more;
        }
    else
        for (int64_t k = 0; k < count; k++) {
            Half p = a[k], q = b[k], more = p > q ? p : q, fewer = p < q ? p : q;
            most[k] = more > ZERO ? more : ZERO;
            least[k] = fewer > ZERO ? fewer : ZERO;
        }
}

/* Depths of the rows from `y` on, class by class: what lies together is read together. */
static void pool(const Export *export, Depths *depths, int64_t x, int64_t y) {
    int64_t end = export->y.cell[export->y.stop - 1] + (export->y.share != 0) + 1, before = export->low - export->z.low;
    depths->x = x;
    depths->first = y;
    depths->stop = smaller(y + depths->rows, end);
    for (int64_t k = 0; k < export->classes; k++)
        for (int64_t row = y; row < depths->stop; row++) {
            int64_t step, place = (k * depths->rows + row - y) * depths->width;
            const Half *a = row_at(&export->parts, x, row, &step) + before + k * step, *b = a;
            if (export->x.share) b = row_at(&export->parts, x + 1, row, &step) + before + k * step;
            pooled(depths->most + place, depths->least + place, a, b, export->length, k == 0);
        }
}

/* The bound falls to the largest depth of a class at the corners of each cell. */
static void lowered(Half *restrict bound, const Half *restrict a, const Half *restrict b, int64_t count, int further) {
    if (further)
        for (int64_t k = 0; k < count; k++) {
            Half p = a[k] > b[k] ? a[k] : b[k], q = a[k + 1] > b[k + 1] ? a[k + 1] : b[k + 1], most = p > q ? p : q;
            bound[k] = most < bound[k] ? most : bound[k];
        }
    else
        for (int64_t k = 0; k < count; k++) {
            Half most = a[k] > b[k] ? a[k] : b[k];
            bound[k] = most < bound[k] ? most : bound[k];
        }
}

/* Depths and bound of the cells between rows `y` and `y` + 1. */
static void bounded(const Export *export, Depths *depths, int64_t x, int64_t y) {
    int64_t reach = export->y.share != 0, width = depths->width, count = (export->length + SEGMENT - 1) / SEGMENT * SEGMENT;
    if (depths->x != x || y < depths->first || y + reach >= depths->stop) pool(export, depths, x, y);
    memset(depths->bound, 0xFF, width * sizeof(Half));
    for (int64_t k = 0; k < export->classes; k++) {
        const Half *row = depths->most + (k * depths->rows + y - depths->first) * width;
        lowered(depths->bound, row, row + reach * width, count, export->z.share != 0);
    }
}

/* The candidates of a segment of cells. */
static int64_t candidates(const Export *export, const Depths *depths, const Segment *segment, int64_t y, Candidate *found) {
    int64_t many = 0, further = export->y.share ? depths->width : 0;
    const Half *least = depths->least + (y - depths->first) * depths->width + segment->low, *bound = depths->bound + segment->low;
    for (int64_t k = 0; k < export->classes; k++, least += depths->rows * depths->width) {
        uint32_t cells = reached(least, least + further, bound, export->z.share != 0) & segment->cells;
        found[many] = (Candidate){k, cells};
        many += cells != 0;
    }
    return many;
}

/* --- labels --- */

/* The halves of a window from which a block is made, in `spare` where they do not lie in one piece. */
static inline const Half *window(const Block *block, const Half *row, Half *spare) {
    if (!block->span) return row + block->base;
    memcpy(spare, row + block->base, block->span * sizeof(Half));
    return spare;
}

/* A row of coarse voxels at the output voxels of a block. */
static inline Reals along(const Half *from, Wholes places, Reals shares, const int mix) {
    Reals near = widened(from);
    if (!mix) return taken(near, places);
    Reals way = less(widened(from + 1), near);
    return mixed(taken(near, places), taken(way, places), shares);
}

static inline void put_labels(uint8_t *to, Wholes labels, int64_t count) {
    if (count == LANES) {
        put_bytes(to, labels);
        return;
    }
    uint8_t spare[LANES];
    put_bytes(spare, labels);
    memcpy(to, spare, count);
}

/* What is mixed along x, y and z; constant in each of the copies that are made of `labelled`. */
typedef struct {
    int x, y, z;
} Mix;

/* Labels of `rows` x `columns` x a block of output voxels, all in one column of cells. */
static inline __attribute__((always_inline)) void labelled(const Export *export, const Cell *cell, const Block *block, const int64_t *numbers,
                                                           int64_t many, int64_t x, int64_t y, const int rows, const int columns, const Mix mix) {
    const Axis *ax = &export->x, *ay = &export->y;
    Wholes places = wholes(block->place), label[2][2];
    Reals shares = reals(block->share), best[2][2], corner[2][2];
    Half spare[2 * LANES + 1] = {0};
    if (many < 1) return; /* which the largest class forbids, and the compiler does not know */
    for (int64_t k = 0; k < many; k++) {
        for (int i = 0; i <= mix.x; i++)
            for (int j = 0; j <= mix.y; j++)
                corner[i][j] = along(window(block, cell->corner[i][j] + numbers[k] * cell->step[i][j], spare), places, shares, mix.z);
        Wholes number = all((int32_t)numbers[k]);
        for (int i = 0; i < rows; i++) {
            Reals near = corner[0][0], far = corner[0][mix.y];
            if (mix.x) {
                Reals share = every(ax->share[x + i]);
                near = mixed(near, less(corner[1][0], near), share);
                if (mix.y) far = mixed(far, less(corner[1][1], far), share);
            }
            Reals way = less(far, near);
            for (int j = 0; j < columns; j++) {
                Reals value = mix.y ? mixed(near, way, every(ay->share[y + j])) : near;
                if (k == 0) {
                    best[i][j] = value;
                    label[i][j] = number;
                } else
                    rival(&best[i][j], &label[i][j], value, number);
            }
        }
    }
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < columns; j++)
            put_labels(export->labels + (x + i) * ax->out + (y + j) * ay->out + block->first, label[i][j], block->count);
}

typedef void (*Labelled)(const Export *, const Cell *, const Block *, const int64_t *, int64_t);

/* All output voxels of a block in a column of cells, two by two. */
#define WAY(NAME, X, Y, Z)                                                                                                             \
    static void NAME(const Export *export, const Cell *cell, const Block *block, const int64_t *numbers, int64_t many) {               \
        const Mix mix = {X, Y, Z};                                                                                                     \
        for (int64_t x = cell->first_x; x < cell->stop_x; x += 2)                                                                      \
            for (int64_t y = cell->first_y; y < cell->stop_y; y += 2) {                                                                \
                int rows = cell->stop_x - x > 1, columns = cell->stop_y - y > 1;                                                       \
                if (rows && columns) labelled(export, cell, block, numbers, many, x, y, 2, 2, mix);                                    \
                else if (rows) labelled(export, cell, block, numbers, many, x, y, 2, 1, mix);                                          \
                else if (columns) labelled(export, cell, block, numbers, many, x, y, 1, 2, mix);                                       \
                else labelled(export, cell, block, numbers, many, x, y, 1, 1, mix);                                                    \
            }                                                                                                                          \
    }
WAY(picked, 0, 0, 0)
WAY(mixed_z, 0, 0, 1)
WAY(mixed_y, 0, 1, 0)
WAY(mixed_yz, 0, 1, 1)
WAY(mixed_x, 1, 0, 0)
WAY(mixed_xz, 1, 0, 1)
WAY(mixed_xy, 1, 1, 0)
WAY(mixed_xyz, 1, 1, 1)
static const Labelled WAYS[8] = {picked, mixed_z, mixed_y, mixed_yz, mixed_x, mixed_xz, mixed_xy, mixed_xyz};

static void fill(const Export *export, const Cell *cell, int64_t first, int64_t stop, uint8_t number) {
    for (int64_t x = cell->first_x; x < cell->stop_x; x++)
        for (int64_t y = cell->first_y; y < cell->stop_y; y++)
            memset(export->labels + x * export->x.out + y * export->y.out + first, number, stop - first);
}

/* The output voxels of a segment, of which `many` classes are candidates. */
static void segment_of(const Export *export, const Cell *cell, const Segment *segment, const Candidate *found, int64_t many) {
    Labelled way = WAYS[4 * (export->x.share != 0) + 2 * (export->y.share != 0) + (export->z.share != 0)];
    int64_t numbers[MOST];
    for (int64_t k = segment->first; k < segment->stop; k++) {
        const Block *block = &export->blocks[k];
        int64_t here = 0;
        for (int64_t c = 0; c < many; c++)
            if (found[c].cells & block->cells) numbers[here++] = found[c].number;
        if (here == 1) fill(export, cell, block->first, block->first + block->count, (uint8_t)numbers[0]);
        else way(export, cell, block, numbers, here);
    }
}

static int cell_of(const Export *export, int64_t x, int64_t y, Cell *cell) {
    const Axis *ax = &export->x, *ay = &export->y;
    cell->x = x;
    cell->y = y;
    cell->stop_x = of_cell(ax, x, &cell->first_x);
    cell->stop_y = of_cell(ay, y, &cell->first_y);
    for (int i = 0; i < 2; i++)
        for (int j = 0; j < 2; j++)
            cell->corner[i][j] = row_at(&export->parts, x + (i && ax->share), y + (j && ay->share), &cell->step[i][j]);
    return cell->first_x < cell->stop_x && cell->first_y < cell->stop_y;
}

static int64_t cells_along(const Axis *axis) { return axis->cell[axis->stop - 1] - axis->cell[axis->first] + 1; }

/* Room for depths; none where every voxel is picked, or where there is no memory: then every class is a candidate. */
static int opened(const Export *export, Depths *depths) {
    int64_t width = (export->length + 2 * SEGMENT) / SEGMENT * SEGMENT, each = export->classes * width, rows = KEPT / (2 * each);
    rows = rows < 2 ? 2 : smaller(rows, 16);
    *depths = (Depths){0, 0, 0, width, rows, -1, 0, 0};
    if (!export->x.share && !export->y.share && !export->z.share) return 0;
    depths->most = calloc(2 * rows * each + width, sizeof(Half));
    if (!depths->most) return 0;
    depths->least = depths->most + rows * each;
    depths->bound = depths->least + rows * each;
    return 1;
}

/* Columns of cells `first` ... `end`, counted along y, then along x. */
static void columns(void *of, int64_t first, int64_t end) {
    const Export *export = of;
    int64_t low_x = export->x.cell[export->x.first], low_y = export->y.cell[export->y.first], side = cells_along(&export->y);
    Depths depths;
    Candidate found[MOST + 1];
    int few = opened(export, &depths);
    for (int64_t k = 0; k < export->classes && !few; k++) found[k] = (Candidate){k, ~(uint32_t)0};
    for (int64_t k = first; k < end; k++) {
        Cell cell;
        if (!cell_of(export, low_x + k / side, low_y + k % side, &cell)) continue;
        if (few) bounded(export, &depths, cell.x, cell.y);
        for (int64_t s = 0; s < export->many; s++) {
            const Segment *segment = &export->segments[s];
            int64_t many = few ? candidates(export, &depths, segment, cell.y, found) : export->classes;
            segment_of(export, &cell, segment, found, many);
        }
    }
    free(depths.most);
}

/* Labels of the output voxels that `axes` (x, y, z) name: the number of the largest of `classes`, 256 at most, the first of equals.
   `done` is 0 where there was no memory. */
void largest_of_classes(const void *parts, void *labels, const void *axes, int64_t classes, int64_t threads, void *done) {
    const Axis *axis = axes;
    Export export = {.parts = *(const Parts *)parts, .labels = labels, .x = axis[0], .y = axis[1], .z = axis[2], .classes = classes};
    int ready = along_z(&export);
    if (ready) in_shares(columns, &export, cells_along(&export.x) * cells_along(&export.y), threads);
    free(export.segments);
    free(export.blocks);
    *(int64_t *)done = ready;
}
#endif
