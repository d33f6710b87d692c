/* Lines of a scan on other places: blurred, as cubic B-spline or straight between neighbours (io/separable.py). Values of float32 lie as
   (outer, n, inner); lines run along the middle axis. LANES of them at once lie side by side in scratch memory, a row for each place, and
   every step goes along all of them together. */
#include <stdint.h>
#include <string.h>

enum { LANES = 32, ROWS = 16 };
static const float POLE = -0.26794919243112270647f; /* sqrt(3) - 2 */

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

/* The filter of `blur` along n rows that lie behind `radius` free ones; beyond the ends the last one goes on. */
static void blurred(float *rows, float *out, int64_t n, const float *blur, int64_t radius) {
    float *first = rows + radius * LANES, *last = first + (n - 1) * LANES;
    for (int64_t k = 1; k <= radius; k++) {
        memcpy(first - k * LANES, first, sizeof(float) * LANES);
        memcpy(last + k * LANES, last, sizeof(float) * LANES);
    }
    for (int64_t q = 0; q < n; q++) {
        const float *middle = first + q * LANES;
        float sum[LANES];
        for (int lane = 0; lane < LANES; lane++) sum[lane] = blur[0] * middle[lane];
        for (int64_t k = 1; k <= radius; k++)
            for (int lane = 0; lane < LANES; lane++) sum[lane] += blur[k] * (middle[lane - k * LANES] + middle[lane + k * LANES]);
        memcpy(out + q * LANES, sum, sizeof(sum));
    }
}

/* The first coefficient, for rows that go on mirrored at the ends (whole samples): its sum has n - 1 terms, of which those below the
   precision of float32 are left out. */
static void first_coefficient(float *rows, int64_t n) {
    enum { TERMS = 24 };
    float sum[LANES], power = 1.0f, all = 1.0f;
    for (int64_t k = 1; k < n && k < TERMS; k++) all *= POLE;
    if (n > TERMS) all = 0.0f;
    for (int lane = 0; lane < LANES; lane++) sum[lane] = rows[lane] + all * rows[(n - 1) * LANES + lane];
    for (int64_t q = 1; q < n - 1 && q < TERMS; q++) {
        power *= POLE;
        for (int lane = 0; lane < LANES; lane++)
            sum[lane] += power * (rows[q * LANES + lane] + all * rows[(n - 1 - q) * LANES + lane]);
    }
    for (int lane = 0; lane < LANES; lane++) rows[lane] = sum[lane] / (1.0f - all * all);
}

/* Values become coefficients of cubic B-splines, where they lie: Unser 1999, from one end to the other and back. */
static void coefficients(float *rows, int64_t n) {
    if (n < 2) return;
    first_coefficient(rows, n);
    for (int64_t q = 1; q < n; q++)
        for (int lane = 0; lane < LANES; lane++) rows[q * LANES + lane] += POLE * rows[(q - 1) * LANES + lane];
    float *last = rows + (n - 1) * LANES, end = 6.0f * POLE / (POLE * POLE - 1.0f);
    for (int lane = 0; lane < LANES; lane++) last[lane] = end * (POLE * last[lane - LANES] + last[lane]);
    for (int64_t q = n - 2; q >= 0; q--)
        for (int lane = 0; lane < LANES; lane++)
            rows[q * LANES + lane] = POLE * (rows[(q + 1) * LANES + lane] - 6.0f * rows[q * LANES + lane]);
}

/* New rows from `count` old ones each. */
static void mix(const Lines *lines, const float *rows) {
    for (int64_t p = 0; p < lines->m; p++) {
        const int32_t *taps = lines->taps + p * lines->count;
        const float *weights = lines->weights + p * lines->count;
        float sum[LANES] = {0};
        for (int64_t k = 0; k < lines->count; k++)
            for (int lane = 0; lane < LANES; lane++) sum[lane] += weights[k] * rows[taps[k] * LANES + lane];
        memcpy(lines->made + p * LANES, sum, sizeof(sum));
    }
}

/* `width` lines that start at `from` and go to `to`. */
static void some(const Lines *lines, const int64_t *from, const int64_t *to, int64_t width) {
    float *rows = lines->rows + lines->radius * LANES;
    gather(lines, rows, from, width);
    if (lines->radius) {
        blurred(lines->rows, lines->blurred, lines->n, lines->blur, lines->radius);
        rows = lines->blurred;
    }
    if (lines->cubic) coefficients(rows, lines->n);
    mix(lines, rows);
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
