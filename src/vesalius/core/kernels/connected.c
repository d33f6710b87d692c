/* Connected parts of a mask, voxels that share a face, and their boxes (core/connected.py). Runs along the last axis are joined with those
   that they touch in the row and the plane before; of runs that hang together each knows an earlier one, and the first itself. So the parts
   are numbered by their first voxels, in one go over the runs. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static const uint64_t ONES = 0x0101010101010101u; /* eight voxels inside */

typedef struct {
    int32_t first, end, of; /* voxels of its row; and an earlier run of the same part, or itself; at last the number of the part */
} Run;

typedef struct {
    Run *runs;
    int64_t count, room, *begin; /* begin (rows + 1): the first run of each row */
} Runs;

static int64_t eight(const uint8_t *from, uint64_t as) {
    uint64_t word;
    memcpy(&word, from, sizeof word);
    return word == as;
}

/* The runs of a row; 0 where there was no memory, or there are more than can be numbered. */
static int found(Runs *all, const uint8_t *row, int64_t length) {
    for (int64_t z = 0; z < length;) {
        while (z + 8 <= length && eight(row + z, 0)) z += 8;
        while (z < length && !row[z]) z++;
        if (z == length) break;
        int64_t first = z;
        while (z < length && row[z]) z += z + 8 <= length && eight(row + z, ONES) ? 8 : 1;
        if (all->count == all->room) {
            int64_t room = 2 * all->room + 1024;
            Run *more = room < INT32_MAX ? realloc(all->runs, room * sizeof(Run)) : 0;
            if (!more) return 0;
            all->runs = more;
            all->room = room;
        }
        all->runs[all->count] = (Run){(int32_t)first, (int32_t)z, (int32_t)all->count};
        all->count++;
    }
    return 1;
}

/* The first run that is known of a part; what lies on the way to it comes nearer. */
static int32_t root_of(Run *runs, int32_t k) {
    while (runs[k].of != k) k = runs[k].of = runs[runs[k].of].of;
    return k;
}

static void join(Run *runs, int32_t a, int32_t b) {
    if (runs[a].of == runs[b].of) return;
    a = root_of(runs, a);
    b = root_of(runs, b);
    if (a < b) runs[b].of = a;
    else runs[a].of = b;
}

/* Runs of two rows side by side. */
static void touched(const Runs *all, int64_t row, int64_t other) {
    Run *runs = all->runs;
    int64_t a = all->begin[row], b = all->begin[other], end_a = all->begin[row + 1], end_b = all->begin[other + 1];
    while (a < end_a && b < end_b) {
        if (runs[a].first < runs[b].end && runs[b].first < runs[a].end) join(runs, (int32_t)a, (int32_t)b);
        if (runs[a].end < runs[b].end) a++;
        else b++;
    }
}

/* All runs joined; 0 where there was no memory. */
static int joined(Runs *all, const uint8_t *mask, int64_t planes, int64_t rows, int64_t length) {
    for (int64_t row = 0; row < planes * rows; row++) {
        all->begin[row] = all->count;
        if (!found(all, mask + row * length, length)) return 0;
        all->begin[row + 1] = all->count;
        if (row % rows) touched(all, row, row - 1);
        if (row >= rows) touched(all, row, row - rows);
    }
    return 1;
}

/* Runs become numbers where these lie; how many parts there are. */
static int64_t told(const Runs *all, int32_t *numbers, int64_t rows, int64_t length) {
    int64_t count = 0;
    for (int64_t row = 0; row < rows; row++, numbers += length)
        for (int64_t k = all->begin[row]; k < all->begin[row + 1]; k++) {
            Run *run = all->runs + k;
            run->of = run->of == k ? (int32_t)++count : all->runs[run->of].of; /* which is numbered, since it comes before */
            for (int64_t z = run->first; z < run->end; z++) numbers[z] = run->of;
        }
    return count;
}

/* `mask` (planes, rows, length) of bytes; `numbers`, which are 0, become 1 ... `count` inside. A `count` of -1: there was no memory, or a
   row or the number of runs is beyond 32 bits. */
void connected(const uint8_t *mask, int32_t *numbers, int64_t planes, int64_t rows, int64_t length, int64_t *count) {
    Runs all = {0, 0, 0, length < INT32_MAX ? malloc((planes * rows + 1) * sizeof(int64_t)) : 0};
    *count = all.begin && joined(&all, mask, planes, rows, length) ? told(&all, numbers, planes * rows, length) : -1;
    free(all.runs);
    free(all.begin);
}

static void widen(int64_t *ends, int64_t first, int64_t end) {
    if (first < ends[0]) ends[0] = first;
    if (end > ends[1]) ends[1] = end;
}

/* `boxes` (count, 3, 2): where each number begins and ends in `numbers` (planes, rows, length) along each axis. */
void connected_boxes(const int32_t *numbers, int64_t *boxes, int64_t planes, int64_t rows, int64_t length, int64_t count) {
    for (int64_t k = 0; k < 3 * count; k++) {
        boxes[2 * k] = INT64_MAX;
        boxes[2 * k + 1] = 0;
    }
    for (int64_t row = 0; row < planes * rows; row++, numbers += length)
        for (int64_t z = 0; z < length;) {
            int64_t first = z;
            int32_t number = numbers[z++];
            while (z < length && numbers[z] == number) z++;
            if (number < 1 || number > count) continue;
            int64_t *box = boxes + 6 * (int64_t)(number - 1);
            widen(box, row / rows, row / rows + 1);
            widen(box + 2, row % rows, row % rows + 1);
            widen(box + 4, first, z);
        }
}
