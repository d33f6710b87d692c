/* What the voxels of patches show of larger sources: one pass over the output, whatever moves them (augment/_places.py). Here is what moves
   them in space, in runs of columns; samples along the axes of their source go a shorter way (along.c). */
#include "parallel.h"
#include "places.h"
#include <math.h>

enum { RUN = 256, BLOCKS = RUN / LANES, PLANES = 3, ROWS = 8 };

typedef uint32_t Bits __attribute__((vector_size(4 * LANES)));

/* Where a run of columns looks: `index` of the first of its corners, shares of the others by axis, and so on. */
typedef struct {
    Ints index[BLOCKS], nearest[BLOCKS];
    Floats share[3][BLOCKS], kept[BLOCKS];
    int beyond; /* whether any lies outside */
} Run;

static Floats chosen(Ints where, Floats yes, Floats no) { return (Floats)((where & (Ints)yes) | (~where & (Ints)no)); }

static int all(Ints where) {
#if defined(__AVX512DQ__)
    return _mm512_movepi32_mask((__m512i)where) == 0xffff;
#elif defined(__AVX2__)
    return _mm256_movemask_ps((__m256)where) == 0xff;
#elif defined(__SSE2__)
    return _mm_movemask_ps((__m128)where) == 0xf;
#else
    int every = -1;
    for (int k = 0; k < LANES; k++) every &= where[k];
    return every;
#endif
}

static Floats low_twice(Floats of) { return SHUFFLED(of, of, FIRST); }

static Floats high_twice(Floats of) { return SHUFFLED(of, of, SECOND); }

/* Which lie in 0 ... `last`: as whole numbers the bits of these rise with them, and those of all below 0 and of none are greater. */
static Ints within(Floats place, float last) {
    uint32_t bits;
    memcpy(&bits, &last, sizeof bits);
    return (Bits)place <= bits;
}

/* Moves places along one axis into the source and lessens what they count by the way; marks those half a voxel out and more. */
static void hold(Floats *place, float last, Floats *kept, Ints *out) {
    const Floats none = {0};
    Floats held = chosen(*place <= last, *place, none + last);
    held = chosen(*place >= 0, held, none);
    Floats away = *place - held;
    away = chosen(away < 0, -away, away);
    *out |= ~(away <= 0.5f);
    *kept *= chosen(away < 1, 1 - away, none);
    *place = held;
}

/* One block of a run from its places along each axis. */
static void note(const Sample *of, Run *run, int block, Floats *place) {
    const Floats none = {0}, ties = none + 12582912.0f; /* to 1.5 * 2^23 whole numbers are added, halves to even, in the last bits */
    Floats kept = none + 1;
    Ints inside = {0}, out = inside;
    inside = ~inside;
    for (int axis = 0; axis < 3; axis++) inside &= within(place[axis], of->last[axis]);
    if (!all(inside)) {
        for (int axis = 0; axis < 3; axis++) hold(&place[axis], of->last[axis], &kept, &out);
        run->beyond = 1;
    }
    int32_t steps[3] = {of->plane, of->row, 1};
    Ints index = {0}, nearest = index;
    for (int axis = 0; axis < 3; axis++) {
        Ints low = __builtin_convertvector(place[axis], Ints);
        Ints near = (Ints)(place[axis] + ties) - (Ints)ties;
        run->share[axis][block] = place[axis] - __builtin_convertvector(low, Floats);
        index += low * steps[axis];
        nearest += near * steps[axis];
    }
    run->index[block] = index;
    run->nearest[block] = nearest | out;
    run->kept[block] = kept;
}

/* Where `count` columns of one output row look, from column `first` on. */
static void look(const Sample *of, const int64_t *at, int64_t first, int64_t count, Run *run) {
    const Floats lanes = {NUMBERS};
    const int64_t voxels = of->patch[0] * of->patch[1] * of->patch[2];
    float start[3], slope[3];
    for (int axis = 0; axis < 3; axis++) {
        double place = of->middle[axis];
        for (int b = 0; b < 3; b++) place += of->linear[axis][b] * ((b < 2 ? at[b] : 0) - (of->patch[b] - 1) / 2.0);
        start[axis] = place;
        slope[axis] = of->linear[axis][2];
    }
    run->beyond = 0;
    for (int64_t k = 0; k < count; k += LANES) {
        Floats place[3];
        for (int axis = 0; axis < 3; axis++) {
            place[axis] = start[axis] + slope[axis] * (lanes + (float)(first + k));
            if (of->field && axis >= 3 - of->axes) {
                int64_t voxel = (at[0] * of->patch[1] + at[1]) * of->patch[2] + first + k;
                place[axis] += of->worth[axis] * loaded(of->field + (axis - 3 + of->axes) * voxels + voxel, count - k);
            }
        }
        note(of, run, k / LANES, place);
    }
}

/* Pairs mixed from their four rows, or from two where there is one plane. */
static Floats mixed_pairs(const Sample *of, const float *from, const int32_t *at, Floats plane, Floats row) {
    const int64_t further = of->source[1] > 1 ? of->row : 0;
    Floats near = (Floats)paired(from, at), next = (Floats)paired(from + further, at);
    near += row * (next - near);
    if (of->source[0] == 1) return near;
    from += of->plane;
    Floats behind = (Floats)paired(from, at), last = (Floats)paired(from + further, at);
    behind += row * (last - behind);
    return near + plane * (behind - near);
}

/* What a run shows of one channel, linear between the corners; an axis of one voxel has no further corners. */
static void between(const Sample *of, const Run *run, const float *from, float *out, int64_t count) {
    for (int64_t k = 0; k < count; k += LANES) {
        const int block = k / LANES;
        const int32_t *at = (const int32_t *)&run->index[block];
        for (int lane = 0; lane < LANES; lane += 2) ask(of, (uintptr_t)(from + at[lane]), sizeof *from);
        const Floats plane = run->share[0][block], row = run->share[1][block];
        Floats low = mixed_pairs(of, from, at, low_twice(plane), low_twice(row)), high = low;
        if (count - k > LANES / 2) high = mixed_pairs(of, from, at + LANES / 2, high_twice(plane), high_twice(row));
        const Floats near = former(low, high), far = latter(low, high);
        Floats shown = near + run->share[2][block] * (far - near);
        if (run->beyond && of->fading) shown = chosen(run->kept[block] > 0, shown * run->kept[block], (Floats){0});
        stored(out + k, shown, count - k);
    }
}

/* What a run shows of one channel of a mask. */
static void nearest(const Sample *of, const Run *run, const char *from, char *out, int64_t count, int64_t size) {
    const int32_t *at = (const int32_t *)run->nearest;
    for (int64_t k = 0; k < count; k += 8) ask(of, (uintptr_t)from + at[k] * size, size);
    take(from, at, out, count, size, run->beyond);
}

/* One run of columns of an output row in all looks. */
static void show_run(const Sample *of, const int64_t *at, int64_t column, int64_t count) {
    const int64_t voxels = of->patch[0] * of->patch[1] * of->patch[2];
    const int64_t start = (at[0] * of->patch[1] + at[1]) * of->patch[2] + column;
    Run run;
    look(of, at, column, count, &run);
    for (int64_t k = 0; k < of->looks; k++) {
        const Form form = of->forms[k];
        for (int64_t channel = 0; channel < form.channels; channel++) {
            const char *from = of->ends[k].source + channel * form.step * form.size;
            char *out = of->ends[k].out + (channel * voxels + start) * form.size;
            if (form.nearest)
                nearest(of, &run, from, out, count, form.size);
            else
                between(of, &run, (const float *)from, (float *)out, count);
        }
    }
}

static void in_space(void *given, int64_t first, int64_t end) {
    const Sample *of = given;
    const int64_t rows = of->patch[1], columns = of->patch[2];
    for (int64_t row = first; row < end; row++)
        for (int64_t column = 0; column < columns; column += RUN)
            show_run(of, (int64_t[]){row / rows, row % rows}, column, least(RUN, columns - column));
}

/* ---- one sample ---- */

/* Of a homogeneous matrix (axes + 1, axes + 1) from output to input in millimetres, from the middle of the patch, at `spacing`. */
static void lead(Sample *of, const double *matrix, const double *spacing) {
    const int skip = 3 - of->axes, wide = of->axes + 1;
    memset(of->linear, 0, sizeof of->linear);
    of->linear[0][0] = 1;
    for (int a = 0; a < 3; a++) of->middle[a] = (of->source[a] - of->patch[a]) / 2 + (of->patch[a] - 1) / 2.0;
    for (int a = 0; a < of->axes; a++) {
        of->middle[a + skip] += matrix[a * wide + of->axes] / spacing[a];
        of->worth[a + skip] = 1 / spacing[a];
        for (int b = 0; b < of->axes; b++) of->linear[a + skip][b + skip] = matrix[a * wide + b] * spacing[b] / spacing[a];
    }
}

/* How far ahead memory is asked: some planes of the output, or some rows where there is one plane. */
static void look_ahead(Sample *of) {
    const int axis = of->patch[0] == 1;
    const double by = axis ? ROWS : PLANES, steps[3] = {of->plane, of->row, 1};
    double ahead = 0;
    for (int a = 0; a < 3; a++) ahead += rint(by * of->linear[a][axis]) * steps[a];
    of->ahead = fabs(ahead) < 1e15 ? ahead : 0;
}

static int straight(const Sample *of) {
    for (int a = 0; a < 3; a++)
        for (int b = 0; b < 3; b++)
            if (a != b && of->linear[a][b] != 0) return 0;
    return !of->field;
}

/* Whether nothing but a change of direction is left of a straight sample. */
static int whole(const Sample *of, const double *matrix) {
    for (int a = 0; a < 3; a++)
        if (fabs(of->linear[a][a]) != 1) return 0;
    for (int a = 0; a < of->axes; a++)
        if (matrix[a * (of->axes + 1) + of->axes] != 0) return 0;
    return 1;
}

static void show(Sample *of, const double *matrix, int64_t threads) {
    if (straight(of) && whole(of, matrix))
        places_turned(of, threads);
    else if (!straight(of) || !places_along(of, threads))
        in_shares(in_space, of, of->patch[0] * of->patch[1], threads);
}

/* Fills what is looked at in each of `samples`. `numbers`: sides of the source and of the patch, voxels from plane to plane and from row
   to row of the source (8); a Form for each of `looks`; then for each sample the addresses of its matrix (float64) and field (or 0), and
   Ends for each look. A source has at least two columns. */
void places(const int64_t *numbers, const double *spacing, int64_t axes, int64_t looks, int64_t samples, int64_t fading, int64_t threads) {
    Sample of = {.axes = axes, .fading = fading, .looks = looks, .plane = numbers[6], .row = numbers[7]};
    memcpy(of.source, numbers, sizeof of.source);
    memcpy(of.patch, numbers + 3, sizeof of.patch);
    for (int axis = 0; axis < 3; axis++) of.last[axis] = nextafterf((float)(of.source[axis] - 1), 0);
    of.forms = (const Form *)(numbers + 8);
    const int64_t *each = numbers + 8 + 4 * looks;
    for (int64_t k = 0; k < samples; k++, each += 2 + 2 * looks) {
        const double *matrix = (const double *)each[0];
        of.field = (const float *)each[1];
        of.ends = (const Ends *)(each + 2);
        lead(&of, matrix, spacing);
        look_ahead(&of);
        show(&of, matrix, threads);
    }
}
