/* What the kernels of a joined way up of a U-Net give, put in its places (nets/_climb.py), and taken out of them again on the way back.

A fine map (samples, *side, channels) in bfloat16 gets, row by row, what lies in the maps of blocks (samples, *block, step of the last axis,
channels), one map for each place in a block along the first two axes; and at its border an `edge` (*edge, channels) in single precision,
whose axes have three places, first, inner and last, or one. Two axes are three, the first of which has one voxel. */
#include "halves.h"
#include "parallel.h"

enum { AXES = 3, WORTH = 1 << 18 };

typedef struct { /* as the caller lays it out */
    int64_t samples, channels, side[AXES], step[AXES], block[AXES], edge[AXES];
} Grid;

typedef struct {
    const Grid *grid;
    uint16_t *fine;
    const float *edge;
    uint16_t *const *maps;
} Work;

/* Whether blocks begin one voxel before what the coarse voxel of their number covers. */
static int64_t early(const Grid *of, int axis) { return of->step[axis] * of->block[axis] > of->side[axis]; }

/* Which place of the edge a voxel has along an axis. */
static int64_t place_of(const Grid *of, int axis, int64_t voxel) {
    if (of->edge[axis] == 1) return 0;
    return voxel == 0 ? 0 : voxel == of->side[axis] - 1 ? 2 : 1;
}

/* The edge (last axis, channels) of a row of voxels. */
static int64_t edge_of(const Grid *of, int64_t z, int64_t y) {
    return (place_of(of, 0, z) * of->edge[1] + place_of(of, 1, y)) * of->edge[2] * of->channels;
}

/* The row in the maps of blocks of a row of voxels. */
static uint16_t *row_of(const Work *of, int64_t sample, int64_t z, int64_t y) {
    const Grid *grid = of->grid;
    z += early(grid, 0), y += early(grid, 1);
    uint16_t *map = of->maps[z % grid->step[0] * grid->step[1] + y % grid->step[1]];
    int64_t row = (sample * grid->block[0] + z / grid->step[0]) * grid->block[1] + y / grid->step[1];
    return map + (row * grid->block[2] * grid->step[2] + early(grid, 2)) * grid->channels;
}

/* To `voxels` times `channels` numbers those of a row, and for each channel that of the edge. */
static void add(uint16_t *fine, const uint16_t *row, const float *edge, int64_t voxels, int64_t channels) {
    int64_t whole = channels - channels % WIDTH;
    for (int64_t voxel = 0; voxel < voxels; voxel++, fine += channels, row += channels) {
        for (int64_t c = 0; c < whole; c += WIDTH) narrowed(fine + c, widened(fine + c) + widened(row + c) + read(edge + c));
        for (int64_t c = whole; c < channels; c++) fine[c] = halved(single(fine[c]) + single(row[c]) + edge[c]);
    }
}

static void add_rows(void *given, int64_t first, int64_t end) {
    const Work *of = given;
    const Grid *grid = of->grid;
    for (int64_t k = first; k < end; k++) {
        int64_t y = k % grid->side[1], z = k / grid->side[1] % grid->side[0], sample = k / grid->side[1] / grid->side[0];
        int64_t channels = grid->channels, voxels = grid->side[2], last = (voxels - 1) * channels;
        uint16_t *fine = of->fine + k * voxels * channels, *row = row_of(of, sample, z, y);
        const float *edge = of->edge + edge_of(grid, z, y);
        if (grid->edge[2] == 1) {
            add(fine, row, edge, voxels, channels);
            continue;
        }
        add(fine, row, edge, 1, channels);
        add(fine + channels, row + channels, edge + channels, voxels - 2, channels);
        add(fine + last, row + last, edge + 2 * channels, 1, channels);
    }
}

/* The rows of blocks of what is fine: zeros where a block reaches beyond it. */
static void take_rows(void *given, int64_t first, int64_t end) {
    const Work *of = given;
    const Grid *grid = of->grid;
    int64_t across = grid->channels, whole = grid->block[2] * grid->step[2] * across, before = early(grid, 2) * across;
    int64_t rows = grid->samples * grid->block[0] * grid->block[1], width = grid->side[2] * across;
    for (int64_t k = first; k < end; k++) {
        int64_t map = k / rows, row = k % rows, y = row % grid->block[1], z = row / grid->block[1] % grid->block[0];
        int64_t sample = row / grid->block[1] / grid->block[0];
        z = z * grid->step[0] + map / grid->step[1] - early(grid, 0);
        y = y * grid->step[1] + map % grid->step[1] - early(grid, 1);
        uint16_t *into = of->maps[map] + row * whole;
        if (z < 0 || z >= grid->side[0] || y < 0 || y >= grid->side[1]) {
            memset(into, 0, whole * sizeof *into);
            continue;
        }
        memset(into, 0, before * sizeof *into);
        memcpy(into + before, of->fine + ((sample * grid->side[0] + z) * grid->side[1] + y) * width, width * sizeof *into);
        memset(into + before + width, 0, (whole - before - width) * sizeof *into);
    }
}

/* To `sum` (channels) that of some voxels. */
static void add_voxels(double *sum, const uint16_t *fine, int64_t voxels, int64_t channels) {
    for (int64_t voxel = 0; voxel < voxels; voxel++)
        for (int64_t c = 0; c < channels; c++) sum[c] += single(fine[voxel * channels + c]);
}

/* To `sums` (*edge, channels) what stands at the border of the fine map. */
static void add_border(const Work *of, double *sums) {
    const Grid *grid = of->grid;
    int64_t channels = grid->channels, voxels = grid->side[2], width = voxels * channels;
    for (int64_t k = 0; k < grid->samples * grid->side[0] * grid->side[1]; k++) {
        int64_t y = k % grid->side[1], z = k / grid->side[1] % grid->side[0];
        int border = (grid->edge[0] == 3 && place_of(grid, 0, z) != 1) || (grid->edge[1] == 3 && place_of(grid, 1, y) != 1);
        double *sum = sums + edge_of(grid, z, y);
        const uint16_t *fine = of->fine + k * width;
        if (grid->edge[2] == 1) {
            add_voxels(sum, fine, border ? voxels : 0, channels);
            continue;
        }
        add_voxels(sum, fine, 1, channels);
        add_voxels(sum + channels, fine + channels, border ? voxels - 2 : 0, channels);
        add_voxels(sum + 2 * channels, fine + width - channels, 1, channels);
    }
}

static int64_t threads_for(const Grid *of, int64_t threads) {
    int64_t numbers = of->samples * of->side[0] * of->side[1] * of->side[2] * of->channels, most = 1 + numbers / WORTH;
    return threads < most ? threads : most;
}

/* To `fine` what is in `maps` and the edge. */
void place_forward(uint16_t *fine, const float *edge, uint16_t *const *maps, const Grid *grid, int64_t threads) {
    Work of = {.grid = grid, .fine = fine, .edge = edge, .maps = maps};
    in_shares(add_rows, &of, grid->samples * grid->side[0] * grid->side[1], threads_for(grid, threads));
}

/* Into `maps` what is in `fine`, and to `edge` the sums at the border. */
void place_backward(uint16_t *fine, double *edge, uint16_t *const *maps, const Grid *grid, int64_t threads) {
    Work of = {.grid = grid, .fine = fine, .maps = maps};
    int64_t rows = grid->step[0] * grid->step[1] * grid->samples * grid->block[0] * grid->block[1];
    in_shares(take_rows, &of, rows, threads_for(grid, threads));
    add_border(&of, edge);
}
