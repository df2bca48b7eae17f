/* Products of rows with a weight in 8 bits: both are whole numbers, whose sums are exact. So a row's result does not
 * depend on the other rows, nor on how many of them are computed at once.
 *
 * A weight [outputs, inputs] lies in blocks of 16 outputs. In a block, four neighbouring inputs of each output follow
 * each other: [outputs / 16][inputs / 4][16][4].
 */
#pragma once

#include "team.h"
#include "vectors.h"

#define PARTS (OUTPUTS / LANES)
#define TASK_BYTES 65536 /* weights of a task: they stay in the second cache while all rows pass */
#define ZERO_POINT 128   /* the unsigned byte that stands for 0 */

#if LANES == 16
#define MOST_ROWS 8
#define MOST_BLOCKS 2
#else
#define MOST_ROWS 4
#define MOST_BLOCKS 1
#endif

typedef struct {
  const int8_t *values;    /* in blocks */
  const float *scales;     /* [outputs] */
  const int32_t *zeros;    /* [outputs]: what the zero point adds to each sum */
  const float *bias;       /* [outputs] or null */
  int64_t outputs, inputs; /* multiples of 16 and of 4 */
} matrix;

/* Rows in 8 bits: the unsigned bytes x [rows, inputs] times `factor` [rows]. */
typedef struct {
  uint8_t *x;
  float *factor;
  int64_t rows, inputs;
} bytes;

typedef enum { PLAIN, ADDED, GATED } ending;

/* Round a row to 8 bits by its largest magnitude. With `norm`, it is normalised (RMSNorm) and multiplied by it first. */
static void round_row(const float *x, const float *norm, float epsilon, int64_t width, int64_t padded, uint8_t *to,
                      float *factor) {
  floats squares = all(0.0f), most = all(0.0f), wrong = all(0.0f);
  for (int64_t i = 0; i < width; i += LANES) {
    floats value = load(x + i);
    if (norm) {
      squares = fma_of(value, value, squares);
      value = multiply(value, load(norm + i));
    }
    most = greater(most, magnitude(value));
    wrong = fma_of(value, all(0.0f), wrong); /* not a number if the row has such a value or an infinite one */
  }
  float largest = greatest_of(most), inverse = largest > 0.0f ? 127.0f / largest : 0.0f;
  *factor = largest / 127.0f + sum_of(wrong);
  if (norm) *factor /= sqrtf(sum_of(squares) / (float)width + epsilon);
  for (int64_t i = 0; i < width; i += LANES) {
    floats value = load(x + i);
    if (norm) value = multiply(value, load(norm + i));
    store_bytes(to + i, add_ints(to_ints(multiply(value, all(inverse))), all_ints(ZERO_POINT)));
  }
  memset(to + width, ZERO_POINT, padded - width);
}

/* Sums of `rows` rows with `blocks` blocks of weights. */
INLINE void sums(const uint8_t *x, int64_t stride, const int8_t *const *w, int64_t quads, int rows, int blocks,
                 ints found[MOST_ROWS][2 * PARTS]) {
  for (int r = 0; r < rows; r++)
    for (int b = 0; b < blocks * PARTS; b++) found[r][b] = no_ints();
  for (int64_t q = 0; q < quads; q++) {
    ints weights[2 * PARTS];
#pragma unroll
    for (int b = 0; b < blocks * PARTS; b++) weights[b] = load_ints(w[b / PARTS] + q * 64 + b % PARTS * LANES * 4);
#pragma unroll
    for (int r = 0; r < rows; r++) {
      int32_t four;
      memcpy(&four, x + r * stride + q * 4, 4);
#pragma unroll
      for (int b = 0; b < blocks * PARTS; b++) found[r][b] = add_products(found[r][b], all_ints(four), weights[b]);
    }
  }
}

/* The same for one row: weights are read in the order of memory, into four sums that do not wait for each other. */
INLINE void sums_of_one(const uint8_t *x, const int8_t *const *w, int64_t quads, int blocks,
                        ints found[MOST_ROWS][2 * PARTS]) {
  for (int block = 0; block < blocks; block++) {
    ints parts[4][PARTS];
#pragma unroll
    for (int i = 0; i < 4 * PARTS; i++) parts[i / PARTS][i % PARTS] = no_ints();
    const int8_t *weights = w[block];
    int64_t q = 0;
    for (; q + 4 <= quads; q += 4) {
#pragma unroll
      for (int i = 0; i < 4; i++) {
        int32_t four;
        memcpy(&four, x + (q + i) * 4, 4);
        _mm_prefetch((const char *)(weights + (q + i) * 64 + 2048), _MM_HINT_T0);
#pragma unroll
        for (int p = 0; p < PARTS; p++)
          parts[i][p] = add_products(parts[i][p], all_ints(four), load_ints(weights + (q + i) * 64 + p * LANES * 4));
      }
    }
    for (; q < quads; q++) {
      int32_t four;
      memcpy(&four, x + q * 4, 4);
      for (int p = 0; p < PARTS; p++)
        parts[0][p] = add_products(parts[0][p], all_ints(four), load_ints(weights + q * 64 + p * LANES * 4));
    }
#pragma unroll
    for (int p = 0; p < PARTS; p++)
      found[0][block * PARTS + p] = add_ints(add_ints(parts[0][p], parts[1][p]), add_ints(parts[2][p], parts[3][p]));
  }
}

/* A vector of outputs from `output` on, as numbers. */
INLINE floats scaled(const matrix *m, ints sum, int64_t output, float factor) {
  floats whole = to_floats(subtract_ints(sum, load_ints(m->zeros + output)));
  floats y = multiply(multiply(whole, load(m->scales + output)), all(factor));
  return m->bias ? add(y, load(m->bias + output)) : y;
}

/* Some rows with one or two blocks. GATED: the blocks are those of gate and up. */
INLINE void tile(const matrix *m, const bytes *in, int64_t row, int rows, int64_t block, int blocks, ending how,
                 float *out, int64_t stride) {
  int64_t quads = m->inputs / 4, up = m->outputs / 2;
  const uint8_t *x = in->x + row * in->inputs;
  int64_t second = how == GATED ? block + up / OUTPUTS : block + 1;
  const int8_t *w[2] = {m->values + block * m->inputs * OUTPUTS, m->values + second * m->inputs * OUTPUTS};
  ints found[MOST_ROWS][2 * PARTS];
  if (rows == 1)
    sums_of_one(x, w, quads, blocks, found);
  else
    sums(x, in->inputs, w, quads, rows, blocks, found);
#pragma unroll
  for (int r = 0; r < rows; r++) {
    float factor = in->factor[row + r];
    float *to = out + (row + r) * stride + block * OUTPUTS;
    if (how == GATED) {
#pragma unroll
      for (int p = 0; p < PARTS; p++) {
        int64_t output = block * OUTPUTS + p * LANES;
        floats gate = scaled(m, found[r][p], output, factor);
        floats other = scaled(m, found[r][PARTS + p], up + output, factor);
        floats opened = divide(gate, add(all(1.0f), exponential(subtract(all(0.0f), gate))));
        store(to + p * LANES, multiply(opened, other));
      }
    } else {
#pragma unroll
      for (int p = 0; p < blocks * PARTS; p++) {
        floats y = scaled(m, found[r][p], block * OUTPUTS + p * LANES, factor);
        if (how == ADDED) y = add(y, load(to + p * LANES));
        store(to + p * LANES, y);
      }
    }
  }
}

INLINE void rows_of_block(const matrix *m, const bytes *in, int64_t block, int blocks, ending how, float *out,
                          int64_t stride, int64_t from, int64_t to) {
  int64_t row = from;
#if MOST_ROWS == 8
  for (; row + 8 <= to; row += 8) tile(m, in, row, 8, block, blocks, how, out, stride);
#endif
  for (; row + 4 <= to; row += 4) tile(m, in, row, 4, block, blocks, how, out, stride);
  for (; row + 2 <= to; row += 2) tile(m, in, row, 2, block, blocks, how, out, stride);
  if (row < to) tile(m, in, row, 1, block, blocks, how, out, stride);
}

/* in @ weight.T, into `out` [rows, stride]. PLAIN: + bias. ADDED: added to what is there. GATED: silu(gate) * up, where
 * the weight's outputs are gate and then up. All threads call it. */
INLINE void product_as(team *t, const matrix *m, const bytes *in, ending how, float *out, int64_t stride) {
  int64_t blocks = (how == GATED ? m->outputs / 2 : m->outputs) / OUTPUTS;
  int64_t few = blocks / (4 * t->threads), most = TASK_BYTES / (m->inputs * OUTPUTS * (how == GATED ? 2 : 1));
  int64_t step = few < most ? few : most;
  step = step < 1 ? 1 : step;
  if (how != GATED && step > 1) step -= step % MOST_BLOCKS;
  int64_t tasks = (blocks + step - 1) / step;
  FOR_TASKS (task, tasks) {
    int64_t begin = task * step, end = begin + step < blocks ? begin + step : blocks;
    for (int64_t some = 0; some < in->rows; some += 64) {
      int64_t last = some + 64 < in->rows ? some + 64 : in->rows;
      int64_t block = begin;
      if (how == GATED)
        for (; block < end; block++) rows_of_block(m, in, block, 2, how, out, stride, some, last);
#if MOST_BLOCKS == 2
      for (; block + 2 <= end; block += 2) rows_of_block(m, in, block, 2, how, out, stride, some, last);
#endif
      for (; block < end; block++) rows_of_block(m, in, block, 1, how, out, stride, some, last);
    }
  }
  meet(t, tasks);
}

static void product(team *t, const matrix *m, const bytes *in, ending how, float *out, int64_t stride) {
  if (how == PLAIN) product_as(t, m, in, PLAIN, out, stride);
  if (how == ADDED) product_as(t, m, in, ADDED, out, stride);
  if (how == GATED) product_as(t, m, in, GATED, out, stride);
}
