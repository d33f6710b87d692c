/* Lines of a scan on other places: blurred, as cubic B-spline or straight between neighbours (io/separable.py). Values of float32 lie as
   (outer, n, inner); lines run along the middle axis. LANES of them at once lie side by side in scratch memory, a row for each place, and
   every step goes along a BAND of them together. */
#include <stdint.h>
#include <string.h>

#if defined(__AVX512F__)
enum { REGISTER = 16 }; /* values */
#elif defined(__AVX2__)
enum { REGISTER = 8 };
#else
enum { REGISTER = 4 };
#endif
enum { LANES = 32, BAND = 2 * REGISTER, ROWS = 16 };
static const float POLE = -0.26794919243112270647f; /* sqrt(3) - 2 */

typedef float Values __attribute__((vector_size(4 * REGISTER)));
typedef float Loose __attribute__((vector_size(4 * REGISTER), aligned(4), may_alias)); /* wherever it lies */

typedef struct { /* a BAND of a row: longer ones than fill registers would go over memory at every step */
    Values left, right;
} Row;

static inline Row row_at(const float *from) { return (Row){*(const Loose *)from, *(const Loose *)(from + REGISTER)}; }

static inline void put(float *to, Row row) {
    *(Loose *)to = row.left;
    *(Loose *)(to + REGISTER) = row.right;
}

static inline Row times(float factor, Row row) { return (Row){factor * row.left, factor * row.right}; }

static inline Row plus(Row one, Row other) { return (Row){one.left + other.left, one.right + other.right}; }

typedef struct {
    const float *in;
    float *out;
    int64_t n, inner, m;
    const int32_t *taps;  /* (m, count): rows that make a new one */
    const float *weights; /* (m, count) */
    int64_t count, cubic;
    const float *blur; /* weights 0 ... radius of a symmetric filter */
    int64_t radius;
    float *rows, *blurred, *made; /* (radius + n + radius, LANES), (n, LANES), (m, LANES) */
} Lines;

/* Lines that start at `at` become rows. */
static void gather(const Lines *lines, float *rows, const int64_t *at, int64_t width) {
    if (width < LANES) memset(rows, 0, sizeof(float) * LANES * lines->n);
    if (at[width - 1] - at[0] == width - 1) {
        for (int64_t q = 0; q < lines->n; q++) memcpy(rows + q * LANES, lines->in + at[0] + q * lines->inner, sizeof(float) * width);
        return;
    }
    for (int64_t first = 0; first < lines->n; first += ROWS) {
        int64_t end = first + ROWS < lines->n ? first + ROWS : lines->n;
        for (int64_t lane = 0; lane < width; lane++)
            for (int64_t q = first; q < end; q++) rows[q * LANES + lane] = lines->in[at[lane] + q * lines->inner];
    }
}

/* Rows become lines that start at `at`. */
static void scatter(const Lines *lines, const float *rows, const int64_t *at, int64_t width) {
    if (at[width - 1] - at[0] == width - 1) {
        for (int64_t p = 0; p < lines->m; p++) memcpy(lines->out + at[0] + p * lines->inner, rows + p * LANES, sizeof(float) * width);
        return;
    }
    for (int64_t first = 0; first < lines->m; first += ROWS) {
        int64_t end = first + ROWS < lines->m ? first + ROWS : lines->m;
        for (int64_t lane = 0; lane < width; lane++)
            for (int64_t p = first; p < end; p++) lines->out[at[lane] + p * lines->inner] = rows[p * LANES + lane];
    }
}

/* n rows that lie behind `radius` free ones go on beyond the ends. */
static void lengthen(float *first, int64_t n, int64_t radius) {
    float *last = first + (n - 1) * LANES;
    for (int64_t k = 1; k <= radius; k++) {
        memcpy(first - k * LANES, first, sizeof(float) * LANES);
        memcpy(last + k * LANES, last, sizeof(float) * LANES);
    }
}

/* The filter of `blur` along n rows. */
static void blurred(const float *first, float *out, int64_t n, const float *blur, int64_t radius) {
    for (int64_t q = 0; q < n; q++) {
        const float *middle = first + q * LANES;
        Row sum = times(blur[0], row_at(middle));
        for (int64_t k = 1; k <= radius; k++) sum = plus(sum, times(blur[k], plus(row_at(middle - k * LANES), row_at(middle + k * LANES))));
        put(out + q * LANES, sum);
    }
}

/* The first coefficient, for rows that go on mirrored at the ends (whole samples): its sum has n - 1 terms, of which those below the
   precision of float32 are left out. */
static Row first_coefficient(const float *rows, int64_t n) {
    enum { TERMS = 24 };
    float power = 1.0f, all = n > TERMS ? 0.0f : 1.0f; /* POLE to the n - 1 */
    for (int64_t k = 1; k < n && k < TERMS; k++) all *= POLE;
    Row sum = plus(row_at(rows), times(all, row_at(rows + (n - 1) * LANES)));
    for (int64_t q = 1; q < n - 1 && q < TERMS; q++) {
        power *= POLE;
        sum = plus(sum, times(power, plus(row_at(rows + q * LANES), times(all, row_at(rows + (n - 1 - q) * LANES)))));
    }
    return times(1.0f / (1.0f - all * all), sum);
}

/* Values become coefficients of cubic B-splines, where they lie: Unser 1999, from one end to the other and back. */
static void coefficients(float *rows, int64_t n) {
    if (n < 2) return;
    Row last = first_coefficient(rows, n), before = last;
    put(rows, last);
    for (int64_t q = 1; q < n; q++) {
        before = last;
        last = plus(row_at(rows + q * LANES), times(POLE, last));
        put(rows + q * LANES, last);
    }
    last = times(6.0f * POLE / (POLE * POLE - 1.0f), plus(last, times(POLE, before)));
    put(rows + (n - 1) * LANES, last);
    for (int64_t q = n - 2; q >= 0; q--) {
        last = plus(times(POLE, last), times(-6.0f * POLE, row_at(rows + q * LANES)));
        put(rows + q * LANES, last);
    }
}

/* New rows from `count` old ones each. */
static inline void mix_of(const Lines *lines, const float *rows, float *made, int count) {
    for (int64_t p = 0; p < lines->m; p++) {
        const int32_t *taps = lines->taps + p * count;
        const float *weights = lines->weights + p * count;
        Row sum = times(weights[0], row_at(rows + taps[0] * LANES));
        for (int k = 1; k < count; k++) sum = plus(sum, times(weights[k], row_at(rows + taps[k] * LANES)));
        put(made + p * LANES, sum);
    }
}

static void mix(const Lines *lines, const float *rows, float *made) {
    if (lines->count == 4) /* the compiler knows how many there are */
        mix_of(lines, rows, made, 4);
    else
        mix_of(lines, rows, made, (int)lines->count);
}

/* `width` lines that start at `from` and go to `to`. */
static void some(const Lines *lines, const int64_t *from, const int64_t *to, int64_t width) {
    float *rows = lines->rows + lines->radius * LANES;
    gather(lines, rows, from, width);
    lengthen(rows, lines->n, lines->radius);
    for (int64_t lane = 0; lane < LANES; lane += BAND) {
        float *band = rows + lane;
        if (lines->radius) {
            blurred(rows + lane, lines->blurred + lane, lines->n, lines->blur, lines->radius);
            band = lines->blurred + lane;
        }
        if (lines->cubic) coefficients(band, lines->n);
        mix(lines, band, lines->made + lane);
    }
    scatter(lines, lines->made, to, width);
}

/* (outer, n, inner) becomes (outer, m, inner). `scratch` has room for 32 * (2 * radius + 2 * n + m) values. */
void resample_lines(const float *in, float *out, int64_t outer, int64_t n, int64_t inner, int64_t m, const int32_t *taps,
                    const float *weights, int64_t count, int64_t cubic, const float *blur, int64_t radius, float *scratch) {
    float *behind = scratch + (2 * radius + n) * LANES;
    Lines lines = {in, out, n, inner, m, taps, weights, count, cubic, blur, radius, scratch, behind, behind + n * LANES};
    int64_t from[LANES], to[LANES], number = outer * inner, width;
    for (int64_t first = 0; first < number; first += width) {
        int64_t left = inner < LANES ? number - first : inner - first % inner; /* wide rows are not left in the middle of a block */
        width = left < LANES ? left : LANES;
        for (int64_t lane = 0; lane < width; lane++) {
            int64_t line = first + lane;
            from[lane] = line / inner * n * inner + line % inner;
            to[lane] = line / inner * m * inner + line % inner;
        }
        some(&lines, from, to, width);
    }
}
