/* What the voxels of patches show of larger sources: one pass over the output, whatever moves them (augment/_places.py).

   Volumes are (channels, planes, rows, columns); a picture is a volume of one plane. Columns lie side by side in memory, and all that is
   looked at in one sample has the same steps from row to row and from plane to plane. Places are voxels of the source counted from 0,
   with fractions; one outside is moved to the nearest inside and counts 1 less its distance to that, 0 from one voxel on. */
#include "parallel.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>
#ifdef __SSE2__
#include <immintrin.h>
#endif

/* Floats of a register; their numbers; eight, four or two pairs; of two registers the former and the latter of all pairs; the first half
   of one, each twice, and the second. */
#if defined(__AVX512F__) && defined(__AVX512DQ__)
enum { LANES = 16 };
#define NUMBERS 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
#define PAIRED pair[0], pair[1], pair[2], pair[3], pair[4], pair[5], pair[6], pair[7]
#define FORMER 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30
#define LATTER 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31
#define FIRST 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7
#define SECOND 8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13, 13, 14, 14, 15, 15
#elif defined(__AVX2__)
enum { LANES = 8 };
#define NUMBERS 0, 1, 2, 3, 4, 5, 6, 7
#define PAIRED pair[0], pair[1], pair[2], pair[3]
#define FORMER 0, 2, 4, 6, 8, 10, 12, 14
#define LATTER 1, 3, 5, 7, 9, 11, 13, 15
#define FIRST 0, 0, 1, 1, 2, 2, 3, 3
#define SECOND 4, 4, 5, 5, 6, 6, 7, 7
#else
enum { LANES = 4 };
#define NUMBERS 0, 1, 2, 3
#define PAIRED pair[0], pair[1]
#define FORMER 0, 2, 4, 6
#define LATTER 1, 3, 5, 7
#define FIRST 0, 0, 1, 1
#define SECOND 2, 2, 3, 3
#endif

enum { RUN = 256, BLOCKS = RUN / LANES, WIDEST = 2048, LINE = 64, PLANES = 3, ROWS = 8 };

typedef float Floats __attribute__((vector_size(4 * LANES)));
typedef int32_t Ints __attribute__((vector_size(4 * LANES)));
typedef uint32_t Bits __attribute__((vector_size(4 * LANES)));
typedef double Pairs __attribute__((vector_size(4 * LANES))); /* pairs of floats */

/* One tensor of a sample: masks are `nearest`, of `size` bytes a voxel; images are linear and float. `step` is from channel to channel. */
typedef struct {
    int64_t nearest, size, channels, step;
} Form;

typedef struct {
    const char *source;
    char *out;
} Ends;

/* One sample. `linear` and `middle` lead from the middle of the patch to places; `field` (axes, planes, rows, columns), 0 where there is
   none, adds to them, `worth` voxels for each unit. */
typedef struct {
    int64_t source[3], patch[3], plane, row; /* sides, and voxels from plane to plane and from row to row of the source */
    double linear[3][3], middle[3];
    const float *field;
    float worth[3], last[3]; /* `last`: the greatest place that has a voxel behind the one before it */
    int axes, fading;
    int64_t ahead; /* voxels of the source from what is looked at to what will be soon */
    int64_t looks;
    const Form *forms;
    const Ends *ends;
} Sample;

/* Where the voxels of one axis look: between `low` and the next, `share` of that; what they count; the nearest, -1 outside. */
typedef struct {
    int32_t low[WIDEST + LANES], nearest[WIDEST + LANES];
    float share[WIDEST + LANES], kept[WIDEST + LANES];
    int64_t first, end; /* of the source, what is looked at */
    int beyond;         /* whether any looks outside */
} Line;

/* Where a run of columns looks: `index` of the first of its corners, shares of the others by axis, and so on. */
typedef struct {
    Ints index[BLOCKS], nearest[BLOCKS];
    Floats share[3][BLOCKS], kept[BLOCKS];
    int beyond; /* whether any lies outside */
} Run;

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

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

/* Asks memory for a voxel that will be looked at soon, when it is the turn of what lies `ahead`; nothing happens where none is there. A
   row runs across the lines of memory of a source that is larger than the caches, which no processor foresees. */
static void ask(const Sample *of, uintptr_t voxel, int64_t size) {
    __builtin_prefetch((const void *)(voxel + (uintptr_t)(of->ahead * size)));
}

/* The same of `count` voxels in a row. */
static void ask_row(const Sample *of, const void *voxels, int64_t count, int64_t size) {
    for (int64_t k = 0; k < count * size; k += LINE) ask(of, (uintptr_t)voxels + k, size);
}

/* Half as many voxels as a register holds, and those behind each of them. */
static Pairs paired(const float *from, const int32_t *at) {
    double pair[LANES / 2];
    for (int k = 0; k < LANES / 2; k++) memcpy(&pair[k], from + at[k], sizeof pair[k]);
    return (Pairs){PAIRED};
}

#ifdef __clang__
#define SHUFFLED(A, B, ...) __builtin_shufflevector(A, B, __VA_ARGS__)
#else
#define SHUFFLED(A, B, ...) __builtin_shuffle(A, B, (Ints){__VA_ARGS__})
#endif

static Floats former(Floats low, Floats high) { return SHUFFLED(low, high, FORMER); }

static Floats latter(Floats low, Floats high) { return SHUFFLED(low, high, LATTER); }

static Floats low_twice(Floats of) { return SHUFFLED(of, of, FIRST); }

static Floats high_twice(Floats of) { return SHUFFLED(of, of, SECOND); }

/* The first `count` of a register at most, zeros behind. */
static Floats loaded(const float *from, int64_t count) {
#ifdef __AVX512F__
    return (Floats)_mm512_maskz_loadu_ps(count >= LANES ? 0xffff : (1 << count) - 1, from);
#else
    Floats found = {0};
    if (count >= LANES) /* of a length that the compiler knows */
        memcpy(&found, from, sizeof found);
    else
        memcpy(&found, from, count * sizeof(float));
    return found;
#endif
}

static void stored(float *out, Floats values, int64_t count) {
#ifdef __AVX512F__
    _mm512_mask_storeu_ps(out, count >= LANES ? 0xffff : (1 << count) - 1, (__m512)values);
#else
    if (count >= LANES)
        memcpy(out, &values, sizeof values);
    else
        memcpy(out, &values, count * sizeof(float));
#endif
}

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

/* Voxels of any type by number; 0 where that is below 0, if any is. */
#define TAKE(NAME, TYPE)                                                                                                                 \
    static void NAME(const TYPE *restrict from, const int32_t *restrict at, TYPE *restrict out, int64_t count, int beyond) {             \
        if (beyond) {                                                                                                                    \
            _Pragma("GCC unroll 8") for (int64_t k = 0; k < count; k++) out[k] = at[k] < 0 ? 0 : from[at[k]];                            \
        } else {                                                                                                                         \
            _Pragma("GCC unroll 8") for (int64_t k = 0; k < count; k++) out[k] = from[at[k]];                                            \
        }                                                                                                                                \
    }
TAKE(take_1, uint8_t)
TAKE(take_2, uint16_t)
TAKE(take_4, uint32_t)
TAKE(take_8, uint64_t)

static void take(const void *from, const int32_t *at, void *out, int64_t count, int64_t size, int beyond) {
    if (size == 1)
        take_1(from, at, out, count, beyond);
    else if (size == 2)
        take_2(from, at, out, count, beyond);
    else if (size == 4)
        take_4(from, at, out, count, beyond);
    else
        take_8(from, at, out, count, beyond);
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

/* ---- along the axes ---- */

typedef struct {
    const Sample *of;
    Line lines[3];
} Lined;

static void lay(Line *line, const Sample *of, int axis) {
    const int64_t side = of->source[axis], new = of->patch[axis];
    line->first = side;
    line->end = line->beyond = 0;
    for (int64_t k = 0; k < new; k++) {
        const double place = (k - (new - 1) / 2.0) * of->linear[axis][axis] + of->middle[axis];
        const double held = !(place >= 0) ? 0 : place <= side - 1 ? place : side - 1;
        const double away = fabs(place - held), low = side > 1 && held >= side - 1 ? side - 2 : floor(held);
        line->low[k] = low;
        line->share[k] = held - low;
        line->kept[k] = of->fading ? (away < 1 ? 1 - away : 0) : 1;
        line->nearest[k] = away <= 0.5 ? (int32_t)rint(held) : -1;
        line->beyond |= away > 0.5;
        line->first = least(line->first, low);
        if (low + 2 > line->end) line->end = least(low + 2, side);
    }
    for (int64_t k = new; k < new + LANES; k++) { /* so that whole registers can be taken */
        line->low[k] = line->low[new - 1];
        line->share[k] = line->kept[k] = 0;
    }
}

/* The rows around one output row, mixed, from the first to the last column that is looked at. */
static void mixed(const Lined *given, const float *from, const int64_t *at, float *out) {
    const Sample *of = given->of;
    const Line *line = given->lines;
    const float z = line[0].share[at[0]], y = line[1].share[at[1]], kept = line[0].kept[at[0]] * line[1].kept[at[1]];
    const float weights[4] = {kept * (1 - z) * (1 - y), kept * (1 - z) * y, kept * z * (1 - y), kept * z * y};
    const float *near = from + line[0].low[at[0]] * of->plane + line[1].low[at[1]] * of->row + line[2].first;
    const float *next = near + (y > 0 ? of->row : 0), *behind = near + (z > 0 ? of->plane : 0);
    const float *last = behind + (next - near);
    const int64_t count = line[2].end - line[2].first;
    ask_row(of, last, count, sizeof *last);
    for (int64_t k = 0; k < count; k += LANES) {
        Floats shown = weights[0] * loaded(near + k, count - k);
        if (y > 0) shown += weights[1] * loaded(next + k, count - k);
        if (z > 0) shown += weights[2] * loaded(behind + k, count - k);
        if (y > 0 && z > 0) shown += weights[3] * loaded(last + k, count - k);
        memcpy(out + k, &shown, sizeof shown);
    }
}

/* A register of voxels of a row, and those behind them. */
static void ahead(const float *from, const int32_t *at, int32_t first, Floats *near, Floats *far) {
    const int32_t low = at[0] < at[LANES - 1] ? at[0] : at[LANES - 1], high = at[0] + at[LANES - 1] - low;
#ifdef __AVX512F__
    if (high - low < 2 * LANES - 1) { /* they lie in two registers */
        const __m512i number = _mm512_sub_epi32(_mm512_loadu_si512(at), _mm512_set1_epi32(low));
        const __m512 here = _mm512_loadu_ps(from + low - first), there = _mm512_loadu_ps(from + low - first + LANES);
        *near = (Floats)_mm512_permutex2var_ps(here, number, there);
        *far = (Floats)_mm512_permutex2var_ps(here, _mm512_add_epi32(number, _mm512_set1_epi32(1)), there);
        return;
    }
#endif
    (void)high;
    const Floats one = (Floats)paired(from - first, at), two = (Floats)paired(from - first, at + LANES / 2);
    *near = former(one, two);
    *far = latter(one, two);
}

/* One mixed row as its columns show it. */
static void spread(const Line *line, const float *mixed, float *out, int64_t count, int fading) {
    for (int64_t k = 0; k < count; k += LANES) {
        Floats near, far, shown;
        ahead(mixed, line->low + k, line->first, &near, &far);
        shown = near + loaded(line->share + k, LANES) * (far - near);
        if (fading) shown *= loaded(line->kept + k, LANES);
        stored(out + k, shown, count - k);
    }
}

#ifdef __AVX512BW__
/* As words, by what number 32 voxels that rise or fall lie behind the first, `low`. */
static __m512i numbers(const int32_t *at, int32_t low) {
    const __m512i from = _mm512_set1_epi32(low);
    const __m512i near = _mm512_sub_epi32(_mm512_loadu_si512(at), from), far = _mm512_sub_epi32(_mm512_loadu_si512(at + LANES), from);
    return _mm512_inserti64x4(_mm512_castsi256_si512(_mm512_cvtepi32_epi16(near)), _mm512_cvtepi32_epi16(far), 1);
}

/* Bytes of a row, all inside: 32 at a time come out of two registers where they lie that near each other. Gives how many were shown. */
static int64_t take_near(const uint8_t *from, const int32_t *at, uint8_t *out, int64_t count) {
    int64_t k = 0;
    for (; k + 2 * LANES <= count; k += 2 * LANES) {
        const int32_t one = at[k], two = at[k + 2 * LANES - 1], low = one < two ? one : two, wide = one + two - 2 * low + 1;
        if (wide > 64) break;
        const __m512i bytes = _mm512_maskz_loadu_epi8(~(uint64_t)0 >> (64 - wide), from + low);
        const __m512i here = _mm512_cvtepu8_epi16(_mm512_castsi512_si256(bytes));
        const __m512i there = _mm512_cvtepu8_epi16(_mm512_extracti64x4_epi64(bytes, 1));
        const __m256i shown = _mm512_cvtepi16_epi8(_mm512_permutex2var_epi16(here, numbers(at + k, low), there));
        memcpy(out + k, &shown, sizeof shown);
    }
    return k;
}
#endif

/* What a row of a mask shows. */
static void take_row(const Sample *of, const char *from, const Line *line, char *out, int64_t size) {
    int64_t shown = 0;
    ask_row(of, from + line->first * size, line->end - line->first, size);
#ifdef __AVX512BW__
    if (size == 1 && !line->beyond) shown = take_near((const uint8_t *)from, line->nearest, (uint8_t *)out, of->patch[2]);
#endif
    take(from, line->nearest + shown, out + shown * size, of->patch[2] - shown, size, line->beyond);
}

static void show_row(const Lined *given, int64_t look, int64_t channel, const int64_t *at, float *room) {
    const Sample *of = given->of;
    const Line *line = given->lines;
    const Form form = of->forms[look];
    const int64_t columns = of->patch[2];
    const char *from = of->ends[look].source + channel * form.step * form.size;
    char *out = of->ends[look].out + ((channel * of->patch[0] + at[0]) * of->patch[1] + at[1]) * columns * form.size;
    if (form.nearest) {
        const int64_t plane = line[0].nearest[at[0]], row = line[1].nearest[at[1]];
        if (plane < 0 || row < 0)
            memset(out, 0, columns * form.size);
        else
            take_row(of, from + (plane * of->plane + row * of->row) * form.size, &line[2], out, form.size);
    } else if (line[0].kept[at[0]] * line[1].kept[at[1]] == 0) {
        memset(out, 0, columns * form.size);
    } else {
        mixed(given, (const float *)from, at, room);
        spread(&line[2], room, (float *)out, columns, of->fading);
    }
}

static void along_axes(void *given, int64_t first, int64_t end) {
    const Lined *lined = given;
    const Sample *of = lined->of;
    float room[WIDEST + 2 * LANES];
    memset(room, 0, sizeof room);
    for (int64_t row = first; row < end; row++) {
        const int64_t at[2] = {row / of->patch[1], row % of->patch[1]};
        for (int64_t look = 0; look < of->looks; look++)
            for (int64_t channel = 0; channel < of->forms[look].channels; channel++) show_row(lined, look, channel, at, room);
    }
}

/* ---- mirrored alone ---- */

#define TURN(NAME, TYPE)                                                                                                                 \
    static void NAME(const TYPE *from, TYPE *out, int64_t count) {                                                                       \
        for (int64_t k = 0; k < count; k++) out[k] = from[count - 1 - k];                                                                \
    }
TURN(turn_1, uint8_t)
TURN(turn_2, uint16_t)
TURN(turn_4, uint32_t)
TURN(turn_8, uint64_t)

static void turn(const void *from, void *out, int64_t count, int64_t size) {
    if (size == 1)
        turn_1(from, out, count);
    else if (size == 2)
        turn_2(from, out, count);
    else if (size == 4)
        turn_4(from, out, count);
    else
        turn_8(from, out, count);
}

/* One output row of one channel. */
static void turn_row(const Sample *of, const Form *form, const char *from, char *out, const int64_t *at) {
    int64_t voxel[3] = {at[0], at[1], 0};
    for (int axis = 0; axis < 3; axis++) {
        if (axis < 2 && of->linear[axis][axis] < 0) voxel[axis] = of->patch[axis] - 1 - voxel[axis];
        voxel[axis] += (of->source[axis] - of->patch[axis]) / 2;
    }
    from += (voxel[0] * of->plane + voxel[1] * of->row + voxel[2]) * form->size;
    if (of->linear[2][2] < 0)
        turn(from, out, of->patch[2], form->size);
    else
        memcpy(out, from, of->patch[2] * form->size);
}

static void turned_over(void *given, int64_t first, int64_t end) {
    const Sample *of = given;
    const int64_t rows = of->patch[1], all = of->patch[0] * rows;
    for (int64_t look = 0; look < of->looks; look++) {
        const Form *form = &of->forms[look];
        for (int64_t channel = 0; channel < form->channels; channel++) {
            const char *from = of->ends[look].source + channel * form->step * form->size;
            char *out = of->ends[look].out + channel * all * of->patch[2] * form->size;
            for (int64_t row = first; row < end; row++)
                turn_row(of, form, from, out + row * of->patch[2] * form->size, (int64_t[]){row / rows, row % rows});
        }
    }
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

static int narrow(const Sample *of) { return of->source[0] <= WIDEST && of->source[1] <= WIDEST && of->source[2] <= WIDEST; }

static void show(Sample *of, const double *matrix, int64_t threads) {
    const int64_t rows = of->patch[0] * of->patch[1];
    Lined *lined = 0;
    if (straight(of) && whole(of, matrix)) {
        in_shares(turned_over, of, rows, threads);
    } else if (straight(of) && narrow(of) && (lined = malloc(sizeof *lined))) {
        lined->of = of;
        for (int axis = 0; axis < 3; axis++) lay(&lined->lines[axis], of, axis);
        in_shares(along_axes, lined, rows, threads);
        free(lined);
    } else {
        in_shares(in_space, of, rows, threads);
    }
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
