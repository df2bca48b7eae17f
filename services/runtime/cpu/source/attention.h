/* Attention of rows over keys and values in pages, in float32 or bfloat16. Each row is computed by itself. */
#pragma once

#include "team.h"
#include "vectors.h"

typedef struct {
  const float *cos, *sin; /* [rows, head_dim / 2] */
  const int64_t *places;  /* [rows]: where a row's key and value are stored, page * page_size + index */
  const int64_t *streams; /* [rows]: the row of `tables` */
  const int64_t *lengths; /* [rows]: positions that a row sees, its own included */
  const int64_t *tables;  /* [streams, pages]: the pages of each stream */
  int64_t pages, page_size;
  void *keys, *values; /* of the first layer: [pages, page_size, kv_heads, head_dim] */
  int64_t layer_size;  /* values of one layer */
  int64_t bfloat16;    /* whether keys and values are bfloat16 */
  int64_t longest;     /* the largest length */
} memory;

typedef struct {
  int64_t heads, kv_heads, head_dim;
} head_shape;

INLINE uint16_t to_bfloat16(float x) {
  uint32_t bits;
  memcpy(&bits, &x, 4);
  if ((bits & 0x7fffffff) > 0x7f800000) return 0x7fc0;
  return (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
}

INLINE void keep(void *to, int64_t at, float x, int bfloat16) {
  if (bfloat16)
    ((uint16_t *)to)[at] = to_bfloat16(x);
  else
    ((float *)to)[at] = x;
}

INLINE floats read(const void *from, int64_t at, int bfloat16) {
  return bfloat16 ? from_bfloat16((const uint16_t *)from + at) : load((const float *)from + at);
}

/* Rotate q and k of one row, store k and v. q is multiplied by `scale` and stays in `qkv`. */
INLINE void rotate_and_store(const memory *m, head_shape shape, int64_t layer, int64_t row, float *qkv, float scale,
                             int bfloat16) {
  int64_t half = shape.head_dim / 2;
  const float *cos = m->cos + row * half, *sin = m->sin + row * half;
  for (int64_t head = 0; head < shape.heads; head++) {
    float *q = qkv + head * shape.head_dim;
    for (int64_t i = 0; i < half; i++) {
      float first = q[i], second = q[half + i];
      q[i] = (first * cos[i] - second * sin[i]) * scale;
      q[half + i] = (second * cos[i] + first * sin[i]) * scale;
    }
  }
  int64_t at = layer * m->layer_size + m->places[row] * shape.kv_heads * shape.head_dim;
  const float *k = qkv + shape.heads * shape.head_dim, *v = k + shape.kv_heads * shape.head_dim;
  for (int64_t head = 0; head < shape.kv_heads; head++, k += shape.head_dim, at += shape.head_dim)
    for (int64_t i = 0; i < half; i++) {
      keep(m->keys, at + i, k[i] * cos[i] - k[half + i] * sin[i], bfloat16);
      keep(m->keys, at + half + i, k[half + i] * cos[i] + k[i] * sin[i], bfloat16);
    }
  at = layer * m->layer_size + m->places[row] * shape.kv_heads * shape.head_dim;
  for (int64_t i = 0; i < shape.kv_heads * shape.head_dim; i++) keep(m->values, at + i, v[i], bfloat16);
}

/* Where position `i` of a row's stream lies in one layer, for one kv head. */
INLINE int64_t place_of(const memory *m, head_shape shape, int64_t layer, const int64_t *table, int64_t i,
                        int64_t head) {
  int64_t place = table[i / m->page_size] * m->page_size + i % m->page_size;
  return layer * m->layer_size + (place * shape.kv_heads + head) * shape.head_dim;
}

#define MOST_VECTORS (128 / LANES) /* of a head */

/* The query heads of one kv head of one row. `scores` has room for all heads' [longest + 4]. */
INLINE void attend_as(const memory *m, head_shape shape, int64_t layer, int64_t row, int64_t kv_head, const float *q,
                      float *out, float *scores, const int vectors, int bfloat16) {
  const int64_t *table = m->tables + m->streams[row] * m->pages;
  int64_t share = shape.heads / shape.kv_heads, length = m->lengths[row], room = m->longest + 16;
  for (int64_t i = 0; i < length; i += 4) {
    int64_t at[4];
    for (int j = 0; j < 4; j++) at[j] = place_of(m, shape, layer, table, i + j < length ? i + j : length - 1, kv_head);
    for (int64_t head = 0; head < share; head++) {
      floats parts[4];
      const float *query = q + (kv_head * share + head) * shape.head_dim;
#pragma unroll
      for (int j = 0; j < 4; j++) parts[j] = multiply(load(query), read(m->keys, at[j], bfloat16));
#pragma unroll
      for (int v = 1; v < vectors; v++)
#pragma unroll
        for (int j = 0; j < 4; j++)
          parts[j] = fma_of(load(query + v * LANES), read(m->keys, at[j] + v * LANES, bfloat16), parts[j]);
      _mm_storeu_ps(scores + head * room + i, four_sums(parts[0], parts[1], parts[2], parts[3]));
    }
  }
  for (int64_t head = 0; head < share; head++) {
    float *mine = scores + head * room;
    for (int64_t i = length; i < (length + LANES - 1) / LANES * LANES; i++) mine[i] = -INFINITY;
    floats most = all(-INFINITY), total = all(0.0f);
    for (int64_t i = 0; i < length; i += LANES) most = greater(most, load(mine + i));
    float largest = greatest_of(most);
    for (int64_t i = 0; i < length; i += LANES) {
      floats power = exponential(subtract(load(mine + i), all(largest)));
      store(mine + i, power);
      if (i + LANES <= length) total = add(total, power);
    }
    float sum = sum_of(total);
    for (int64_t i = length / LANES * LANES; i < length; i++) sum += mine[i];
    floats sums[MOST_VECTORS];
#pragma unroll
    for (int v = 0; v < vectors; v++) sums[v] = all(0.0f);
    for (int64_t i = 0; i < length; i++) {
      int64_t at = place_of(m, shape, layer, table, i, kv_head);
      floats weight = all(mine[i]);
#pragma unroll
      for (int v = 0; v < vectors; v++) sums[v] = fma_of(weight, read(m->values, at + v * LANES, bfloat16), sums[v]);
    }
    float *to = out + (kv_head * share + head) * shape.head_dim;
#pragma unroll
    for (int v = 0; v < vectors; v++) store(to + v * LANES, divide(sums[v], all(sum)));
  }
}

static void attend(const memory *m, head_shape shape, int64_t layer, int64_t row, int64_t kv_head, const float *q,
                   float *out, float *scores) {
#define CASE(wide)                                                               \
  if (shape.head_dim == wide) {                                                  \
    if (m->bfloat16)                                                             \
      attend_as(m, shape, layer, row, kv_head, q, out, scores, wide / LANES, 1); \
    else                                                                         \
      attend_as(m, shape, layer, row, kv_head, q, out, scores, wide / LANES, 0); \
  }
  CASE(16) CASE(32) CASE(48) CASE(64) CASE(80) CASE(96) CASE(128)
#undef CASE
}
