/* What direct_full.c and direct_full_up.c share: products in single precision whose sums stay in registers.

   Maps lie as (B, D, H, W, channels). A value of one channel of the input is multiplied by the weights of several channels of the result at
   once, so that there may be any number of either. Some voxels in a row are worked on together: each sees runs of values that lie one
   behind the other, all channels at one place of the kernel or at a whole row of places. */
#ifndef DIRECT_FULL_H
#define DIRECT_FULL_H
#define SINGLE
#include "extent.h"
#include "halves.h"

enum {
    BLOCK = 16,                                   /* channels of the result whose weights lie together */
    REGISTERS = WIDTH == 4 ? 4 : 2,               /* for each voxel */
    WIDE = REGISTERS * WIDTH,                     /* channels that are worked on together */
    ROWS = WIDTH == 16 ? 14 : WIDTH == 8 ? 6 : 3, /* voxels that are, */
    MORE = WIDTH == 16 ? 14 : 12,                 /* or where one register is enough for each */
    RUNS = 16,                                    /* that are added at once, at most */
};

typedef struct {
    const float *v[RUNS], *u[RUNS]; /* what the first voxel of a row sees, and the weights of it */
    int64_t count, length;          /* of runs; of the values in each */
    int64_t apart, block;           /* values from voxel to voxel; weights from one block to the next */
} Runs;

typedef struct {
    float *to, *sums;        /* the channels of the first voxel of a row, and sums that wait for more runs */
    const float *bias;
    int64_t apart, channels; /* values from voxel to voxel; how many channels are there */
    int first, last;         /* whether there are no sums yet; whether this is all */
} Goal;

/* The first `count` of a few numbers. */
static inline void put_some(float *to, const float *from, int64_t count) {
    for (int size = WIDE; size; size /= 2)
        if (count & size) {
            memcpy(to, from, size * sizeof *to);
            to += size, from += size;
        }
}

/* Adds a run to sums of `rows` voxels from `v` on. */
INLINE void add_run(Floats sums[][REGISTERS], const Runs *of, const float *v, const float *u, int rows, int registers) {
    const int64_t apart = of->apart;
    const float *three[(MORE + 2) / 3]; /* with addresses of every third voxel all are in reach */
#pragma GCC unroll 14
    for (int k = 0; k < (rows + 2) / 3; k++) three[k] = v + 3 * k * apart;
    for (int64_t c = 0; c < of->length; c++, u += BLOCK) {
        Floats weights[REGISTERS];
#pragma GCC unroll 4
        for (int r = 0; r < registers; r++) weights[r] = numbers(u + r * WIDTH / BLOCK * of->block + r * WIDTH % BLOCK);
#pragma GCC unroll 14
        for (int t = 0; t < rows; t++) {
            float value = three[t / 3][t % 3 * apart];
#pragma GCC unroll 4
            for (int r = 0; r < registers; r++) sums[t][r] += value * weights[r];
        }
#pragma GCC unroll 14
        for (int k = 0; k < (rows + 2) / 3; k++) three[k]++;
    }
}

/* Sums of `rows` voxels and what there was before, to memory. */
INLINE void finish(Floats sums[][REGISTERS], const Goal *goal, float *to, int64_t apart, int rows, int registers) {
    const float *before = goal->first ? goal->bias : goal->sums;
    int64_t step = goal->first ? 0 : WIDE;
#pragma GCC unroll 14
    for (int t = 0; t < rows; t++)
#pragma GCC unroll 4
        for (int r = 0; r < registers; r++) put_numbers(to + t * apart + r * WIDTH, numbers(before + t * step + r * WIDTH) + sums[t][r]);
}

/* All runs of `rows` voxels from number `voxel` of a row on. */
INLINE void some(const Runs *of, const Goal *goal, int64_t voxel, int rows, int registers) {
    Floats sums[MORE][REGISTERS];
#pragma GCC unroll 14
    for (int t = 0; t < rows; t++)
#pragma GCC unroll 4
        for (int r = 0; r < registers; r++) sums[t][r] = (Floats){0};
    if (goal->last && registers > 1) /* there is much to write */
#pragma GCC unroll 14
        for (int t = 0; t < rows; t++)
#pragma GCC unroll 4
            for (int r = 0; r < registers; r++) __builtin_prefetch(goal->to + (voxel + t) * goal->apart + r * WIDTH, 1);
    for (int64_t n = 0; n < of->count; n++) add_run(sums, of, of->v[n] + voxel * of->apart, of->u[n], rows, registers);
    Goal own = *goal;
    own.to += voxel * own.apart, own.sums += voxel * WIDE;
    if (!own.last)
        finish(sums, &own, own.sums, WIDE, rows, registers);
    else if (own.channels == registers * WIDTH)
        finish(sums, &own, own.to, own.apart, rows, registers);
    else {
        float spare[MORE * WIDE];
        finish(sums, &own, spare, WIDE, rows, registers);
        for (int t = 0; t < rows; t++) put_some(own.to + t * own.apart, spare + t * WIDE, own.channels);
    }
}

static void wide(const Runs *of, const Goal *goal, int64_t voxel, int64_t rows) {
    switch (rows) {
#define CASE(n) case n: some(of, goal, voxel, n, REGISTERS); break;
        CASE(1) CASE(2) CASE(3)
#if defined(__AVX2__)
        CASE(4) CASE(5) CASE(6)
#endif
#if defined(__AVX512F__)
        CASE(7) CASE(8) CASE(9) CASE(10) CASE(11) CASE(12) CASE(13) CASE(14)
#endif
#undef CASE
    }
}

static void narrow(const Runs *of, const Goal *goal, int64_t voxel, int64_t rows) {
    switch (rows) {
#define CASE(n) case n: some(of, goal, voxel, n, 1); break;
        CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6) CASE(7) CASE(8) CASE(9) CASE(10) CASE(11) CASE(12)
#if defined(__AVX512F__)
        CASE(13) CASE(14)
#endif
#undef CASE
    }
}

/* The same for a row of `count` voxels. */
static void along_row(const Runs *of, const Goal *goal, int64_t count) {
    int few = goal->channels <= WIDTH;
    int64_t most = few ? MORE : ROWS, turns = (count + most - 1) / most;
    for (int64_t turn = 0; turn < turns; turn++) {
        int64_t first = count * turn / turns, rows = count * (turn + 1) / turns - first;
        (few ? narrow : wide)(of, goal, first, rows);
    }
}
#endif
