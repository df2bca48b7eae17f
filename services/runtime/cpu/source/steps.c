/* Steps of a stack of layers whose weights have 8 or 4 bits, and single products: one call each, all threads together.
 * services/runtime/cpu/library.py declares these functions for Python.
 */
#include "attention.h"
#include "products.h"

/* The layout of weights and structures: a new number with each change, as LAYOUT in library.py. */
const int64_t chroma_layout = 2;

typedef struct {
  const float *attention_norm, *ffn_norm;
  matrix qkv, out, gate_up, down;
} layer;

typedef struct {
  const layer *layers;
  const float *norm;
  int64_t count, width, ffn, heads, kv_heads, head_dim;
  float epsilon;
} stack;

typedef struct {
  const stack *stack;
  memory memory;
  int64_t rows;
  float *x;                                        /* [rows, width]: embeddings, then the residual */
  float *hidden;                                   /* [rows, width]: the result */
  float *qkv, *attended, *gated, *scores, *factor; /* working memory */
  uint8_t *bytes;
  group_sum *sums;
  int64_t scores_of_thread;
  int64_t threads;
  openmp omp;
} step;

typedef struct {
  void (*work)(team *, void *);
  void *given;
  phase *phases;
  int threads;
  openmp omp;
} job;

static void enter(void *given) {
  job *j = given;
  team t = {j->phases, j->threads, j->threads > 1 ? j->omp.number() : 0};
  j->work(&t, j->given);
}

/* `work` with all threads. `phases` are as many as it has, and all 0. */
static void run(void (*work)(team *, void *), void *given, phase *phases, int64_t threads, const openmp *omp) {
  job j = {work, given, phases, omp->parallel && threads > 1 ? (int)threads : 1, *omp};
  if (j.threads > 1)
    omp->parallel(enter, &j, (unsigned)threads, 0);
  else
    enter(&j);
}

/* Round rows [rows, width], all threads together. */
static void round_rows(team *t, const float *x, const float *norm, float epsilon, int64_t width, const matrix *m,
                       bytes *to) {
  to->inputs = m->inputs;
  FOR_TASKS (row, to->rows) {
    uint8_t *bytes_of_row = to->x + row * m->inputs;
    round_row(x + row * width, norm, epsilon, width, m->inputs, m->group ? 0 : ZERO_POINT, bytes_of_row,
              to->factor + row);
    if (m->group)
      sum_groups((const int8_t *)bytes_of_row, m->inputs, m->group, to->sums + row * (m->inputs / m->group));
  }
  meet(t, to->rows);
}

static void normalise(const stack *s, const float *x, float *to) {
  floats squares = all(0.0f);
  for (int64_t i = 0; i < s->width; i += LANES) squares = fma_of(load(x + i), load(x + i), squares);
  floats length = all(sqrtf(sum_of(squares) / (float)s->width + s->epsilon));
  for (int64_t i = 0; i < s->width; i += LANES) store(to + i, divide(multiply(load(x + i), load(s->norm + i)), length));
}

static void step_of(team *t, void *given) {
  step *p = given;
  const stack *s = p->stack;
  const memory *m = &p->memory;
  head_shape shape = {s->heads, s->kv_heads, s->head_dim};
  int64_t qkv_width = (s->heads + 2 * s->kv_heads) * s->head_dim, heads_width = s->heads * s->head_dim;
  float *scores = p->scores + t->number * p->scores_of_thread, scale = 1.0f / sqrtf((float)s->head_dim);
  bytes in = {p->bytes, p->factor, p->sums, p->rows, 0};
  for (int64_t index = 0; index < s->count; index++) {
    const layer *l = s->layers + index;
    round_rows(t, p->x, l->attention_norm, s->epsilon, s->width, &l->qkv, &in);
    product(t, &l->qkv, &in, PLAIN, p->qkv, qkv_width);
    FOR_TASKS (row, p->rows) {
      if (m->bfloat16)
        rotate_and_store(m, shape, index, row, p->qkv + row * qkv_width, scale, 1);
      else
        rotate_and_store(m, shape, index, row, p->qkv + row * qkv_width, scale, 0);
    }
    meet(t, p->rows);
    FOR_TASKS (task, p->rows * s->kv_heads) {
      int64_t row = task / s->kv_heads;
      attend(m, shape, index, row, task % s->kv_heads, p->qkv + row * qkv_width, p->attended + row * heads_width,
             scores);
    }
    meet(t, p->rows * s->kv_heads);
    round_rows(t, p->attended, 0, 0.0f, heads_width, &l->out, &in);
    product(t, &l->out, &in, ADDED, p->x, s->width);
    round_rows(t, p->x, l->ffn_norm, s->epsilon, s->width, &l->gate_up, &in);
    product(t, &l->gate_up, &in, GATED, p->gated, s->ffn);
    round_rows(t, p->gated, 0, 0.0f, s->ffn, &l->down, &in);
    product(t, &l->down, &in, ADDED, p->x, s->width);
  }
  FOR_TASKS (row, p->rows) normalise(s, p->x + row * s->width, p->hidden + row * s->width);
}

#define PHASES_OF_LAYER 10 /* four products, four roundings, rotation, attention */

void chroma_step(step *p) {
  phase phases[p->stack->count * PHASES_OF_LAYER + 1];
  memset(phases, 0, sizeof phases);
  run(step_of, p, phases, p->threads, &p->omp);
}

typedef struct {
  matrix matrix;
  const float *x; /* [rows, width] */
  int64_t rows, width;
  float *out; /* [rows, outputs] */
  uint8_t *bytes;
  group_sum *sums;
  float *factor;
  int64_t threads;
  openmp omp;
} single;

static void product_of(team *t, void *given) {
  single *p = given;
  bytes in = {p->bytes, p->factor, p->sums, p->rows, 0};
  round_rows(t, p->x, 0, 0.0f, p->width, &p->matrix, &in);
  product(t, &p->matrix, &in, PLAIN, p->out, p->matrix.outputs);
}

void chroma_product(single *p) {
  phase phases[2] = {0};
  run(product_of, p, phases, p->threads, &p->omp);
}
