/* Products of rows in 8 bits with a weight in 8 or 4 bits. Both are whole numbers, whose sums are exact. Where sums of
 * groups are added as floating-point numbers, their order is always the same. So a row's result does not depend on the
 * other rows, nor on how many of them are computed at once.
 *
 * A weight [outputs, inputs] lies in blocks of 16 outputs. In a block, four neighbouring inputs of each output follow
 * each other. 8 bits: [outputs / 16][inputs / 4][16][4]. 4 bits: [outputs / 16][groups], and in each group the bfloat16
 * scales [16] and offsets [16], then the values [group / 8][16][4]; the low half of a byte is of the first four of eight
 * inputs, the high half of the other four.
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
  const float *scales;     /* 8 bits: [outputs] */
  const int32_t *zeros;    /* 8 bits: [outputs], what the zero point adds to each sum */
  const float *bias;       /* [outputs] or null */
  int64_t outputs, inputs; /* multiples of 16 */
  int64_t group;           /* 8 bits: 0. 4 bits: inputs that share a scale, a multiple of 16 */
} matrix;

/* What a row's sum s over a group adds to a product with a weight in 4 bits, where it begins and by its offset. */
typedef struct {
  int32_t start; /* -8 * s */
  float sum;     /* s */
} group_sum;

/* Rows in 8 bits, times `factor` [rows]. x [rows, inputs] is signed for weights in 4 bits. For weights in 8 bits it is
 * unsigned, and the zero point stands for 0. */
typedef struct {
  uint8_t *x;
  float *factor;
  group_sum *sums; /* [rows, inputs / group], for weights in 4 bits */
  int64_t rows, inputs;
} bytes;

typedef enum { PLAIN, ADDED, GATED } ending;

/* Round a row to 8 bits, plus `zero`, by its largest magnitude. With `norm`, it is normalised (RMSNorm) and multiplied
 * by it first. */
static void round_row(const float *x, const float *norm, float epsilon, int64_t width, int64_t padded, int zero,
                      uint8_t *to, float *factor) {
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
    store_bytes(to + i, add_ints(to_ints(multiply(value, all(inverse))), all_ints(zero)));
  }
  memset(to + width, zero, padded - width);
}

static void sum_groups(const int8_t *x, int64_t inputs, int64_t group, group_sum *sums) {
  for (int64_t begin = 0; begin < inputs; begin += group) {
    int32_t sum = 0;
    for (int64_t i = begin; i < begin + group; i++) sum += x[i];
    *sums++ = (group_sum){-8 * sum, (float)sum};
  }
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

/* Products of `rows` rows with one block in 4 bits, without the rows' factors: a weight is (q - 8) * scale + offset.
 * With few rows, each has two sums that do not wait for each other. */
INLINE void products_in_4(const matrix *m, const bytes *in, int64_t row, const int rows, int64_t block,
                          floats found[MOST_ROWS][2 * PARTS], int at) {
  const int ways = rows > 2 ? 1 : 2;
  int64_t groups = m->inputs / m->group;
  const uint8_t *w = (const uint8_t *)m->values + block * groups * (m->group / 2 + 4) * OUTPUTS;
  const uint8_t *x = in->x + row * in->inputs;
  const group_sum *sums = in->sums + row * groups;
#pragma unroll
  for (int r = 0; r < rows; r++)
#pragma unroll
    for (int p = 0; p < PARTS; p++) found[r][at + p] = all(0.0f);
  for (int64_t g = 0; g < groups; g++, sums++) {
    const uint16_t *scales = (const uint16_t *)w;
    w += 4 * OUTPUTS;
    ints whole[MOST_ROWS][2][PARTS];
#pragma unroll
    for (int r = 0; r < rows; r++)
#pragma unroll
      for (int p = 0; p < PARTS; p++) whole[r][0][p] = all_ints(sums[r * groups].start), whole[r][1][p] = no_ints();
    for (int64_t i = 0; i < m->group; i += 16, w += 8 * OUTPUTS, x += 16) {
#pragma unroll
      for (int half = 0; half < 2; half++) {
#pragma unroll
        for (int p = 0; p < PARTS; p++) {
          ints both = load_ints(w + half * 4 * OUTPUTS + p * LANES * 4);
          ints low = and_ints(both, all_ints(0x0f0f0f0f)), high = high_halves(both);
#pragma unroll
          for (int r = 0; r < rows; r++) {
            ints *sum = &whole[r][half % ways][p];
            *sum = add_halves(*sum, low, high, x + r * in->inputs + half * 8);
          }
        }
      }
    }
#pragma unroll
    for (int r = 0; r < rows; r++)
#pragma unroll
      for (int p = 0; p < PARTS; p++) {
        ints sum = ways == 2 ? add_ints(whole[r][0][p], whole[r][1][p]) : whole[r][0][p];
        floats y = fma_of(to_floats(sum), from_bfloat16(scales + p * LANES), found[r][at + p]);
        found[r][at + p] = fma_of(all(sums[r * groups].sum), from_bfloat16(scales + OUTPUTS + p * LANES), y);
      }
  }
}

/* Products of `rows` rows with two blocks or one in 8 bits, without the rows' factors. */
INLINE void products_in_8(const matrix *m, const bytes *in, int64_t row, int rows, const int64_t *block, int blocks,
                          floats found[MOST_ROWS][2 * PARTS]) {
  const uint8_t *x = in->x + row * in->inputs;
  const int8_t *w[2];
  for (int b = 0; b < blocks; b++) w[b] = m->values + block[b] * m->inputs * OUTPUTS;
  ints whole[MOST_ROWS][2 * PARTS];
  if (rows == 1)
    sums_of_one(x, w, m->inputs / 4, blocks, whole);
  else
    sums(x, in->inputs, w, m->inputs / 4, rows, blocks, whole);
#pragma unroll
  for (int r = 0; r < rows; r++)
#pragma unroll
    for (int i = 0; i < blocks * PARTS; i++) {
      int64_t output = block[i / PARTS] * OUTPUTS + i % PARTS * LANES;
      floats y = to_floats(subtract_ints(whole[r][i], load_ints(m->zeros + output)));
      found[r][i] = multiply(y, load(m->scales + output));
    }
}

/* Some rows with one or two blocks. GATED: the blocks are those of gate and up. */
INLINE void tile(const matrix *m, const bytes *in, int64_t row, int rows, int64_t first, int blocks, int bits,
                 ending how, float *out, int64_t stride) {
  int64_t block[2] = {first, how == GATED ? first + m->outputs / 2 / OUTPUTS : first + 1};
  floats found[MOST_ROWS][2 * PARTS];
  if (bits == 8)
    products_in_8(m, in, row, rows, block, blocks, found);
  else
    for (int b = 0; b < blocks; b++) products_in_4(m, in, row, rows, block[b], found, b * PARTS);
#pragma unroll
  for (int r = 0; r < rows; r++) {
    float *to = out + (row + r) * stride + first * OUTPUTS;
#pragma unroll
    for (int i = 0; i < blocks * PARTS; i++) {
      found[r][i] = multiply(found[r][i], all(in->factor[row + r]));
      if (m->bias) found[r][i] = add(found[r][i], load(m->bias + block[i / PARTS] * OUTPUTS + i % PARTS * LANES));
    }
#pragma unroll
    for (int i = 0; i < (how == GATED ? PARTS : blocks * PARTS); i++) {
      floats y = found[r][i];
      if (how == GATED) {
        y = divide(y, add(all(1.0f), exponential(subtract(all(0.0f), y))));
        y = multiply(y, found[r][PARTS + i]);
      }
      if (how == ADDED) y = add(y, load(to + i * LANES));
      store(to + i * LANES, y);
    }
  }
}

INLINE void rows_of_block(const matrix *m, const bytes *in, int64_t block, int blocks, int bits, ending how, float *out,
                          int64_t stride, int64_t from, int64_t to) {
  int64_t row = from;
#if MOST_ROWS == 8
  for (; row + 8 <= to; row += 8) tile(m, in, row, 8, block, blocks, bits, how, out, stride);
#endif
  for (; row + 4 <= to; row += 4) tile(m, in, row, 4, block, blocks, bits, how, out, stride);
  for (; row + 2 <= to; row += 2) tile(m, in, row, 2, block, blocks, bits, how, out, stride);
  if (row < to) tile(m, in, row, 1, block, blocks, bits, how, out, stride);
}

/* in @ weight.T, into `out` [rows, stride]. PLAIN: + bias. ADDED: added to what is there. GATED: silu(gate) * up, where
 * the weight's outputs are gate and then up. All threads call it. */
INLINE void product_as(team *t, const matrix *m, const bytes *in, int bits, ending how, float *out, int64_t stride) {
  int64_t blocks = (how == GATED ? m->outputs / 2 : m->outputs) / OUTPUTS;
  int64_t few = blocks / (4 * t->threads),
          most = TASK_BYTES / (m->inputs * OUTPUTS * bits / 8 * (how == GATED ? 2 : 1));
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
        for (; block < end; block++) rows_of_block(m, in, block, 2, bits, how, out, stride, some, last);
#if MOST_BLOCKS == 2
      for (; block + 2 <= end; block += 2) rows_of_block(m, in, block, 2, bits, how, out, stride, some, last);
#endif
      for (; block < end; block++) rows_of_block(m, in, block, 1, bits, how, out, stride, some, last);
    }
  }
  meet(t, tasks);
}

static void product(team *t, const matrix *m, const bytes *in, ending how, float *out, int64_t stride) {
#define CASE(bits, ending) \
  if ((m->group ? 4 : 8) == bits && how == ending) product_as(t, m, in, bits, ending, out, stride);
  CASE(8, PLAIN) CASE(8, ADDED) CASE(8, GATED) CASE(4, PLAIN) CASE(4, ADDED) CASE(4, GATED)
#undef CASE
}
