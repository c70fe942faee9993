/*
 * cuBLASLt on the CPU, for float32 only: column-major D = alpha op(A) op(B) + beta C + bias, from the attributes that
 * llcuda sets. Whoever gets an attribute, a layout or the order of operands wrong gets wrong numbers.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

struct desc { int compute, scale, transA, transB, epilogue; const float *bias; };
struct layout { int type, batch; uint64_t rows, cols; int64_t ld, stride; };
struct preference { uint64_t workspace; uint32_t reduction, alignment[4]; };

static int live, heuristics, refuse;
int fake_live(void) { return live; }
int fake_heuristics(void) { return heuristics; }
/* 15: no algorithm; other values: the call fails. */
void fake_refuse(int status) { refuse = status; }
static struct preference seen;
void *fake_preference(void) { return &seen; }
static int compute;
int fake_compute(void) { return compute; }

size_t cublasLtGetVersion(void) { return 130100; }
int cublasLtCreate(void **h) { *h = malloc(1); live++; return 0; }
int cublasLtDestroy(void *h) { free(h); live--; return 0; }

int cublasLtMatmulDescCreate(struct desc **d, int compute, int scale)
{
    *d = calloc(1, sizeof **d);
    (*d)->compute = compute, (*d)->scale = scale, (*d)->epilogue = 1;
    live++;
    return 0;
}
int cublasLtMatmulDescDestroy(struct desc *d) { free(d); live--; return 0; }
int cublasLtMatmulDescSetAttribute(struct desc *d, int attribute, const void *value, size_t bytes)
{
    switch (attribute) {
    case 3: d->transA = *(const int *)value; return bytes != 4;
    case 4: d->transB = *(const int *)value; return bytes != 4;
    case 7: d->epilogue = *(const int *)value; return bytes != 4;
    case 8: d->bias = *(const float *const *)value; return bytes != 8;
    }
    return 7;
}

int cublasLtMatrixLayoutCreate(struct layout **l, int type, uint64_t rows, uint64_t cols, int64_t ld)
{
    *l = calloc(1, sizeof **l);
    (*l)->type = type, (*l)->rows = rows, (*l)->cols = cols, (*l)->ld = ld, (*l)->batch = 1;
    live++;
    return ld < (int64_t)rows ? 7 : 0;
}
int cublasLtMatrixLayoutDestroy(struct layout *l) { free(l); live--; return 0; }
int cublasLtMatrixLayoutSetAttribute(struct layout *l, int attribute, const void *value, size_t bytes)
{
    if (attribute == 5) { l->batch = *(const int *)value; return bytes != 4; }
    if (attribute == 6) { l->stride = *(const int64_t *)value; return bytes != 8; }
    return 7;
}

int cublasLtMatmulPreferenceCreate(struct preference **p) { *p = calloc(1, sizeof **p); live++; return 0; }
int cublasLtMatmulPreferenceDestroy(struct preference *p) { free(p); live--; return 0; }
int cublasLtMatmulPreferenceSetAttribute(struct preference *p, int attribute, const void *value, size_t bytes)
{
    if (attribute == 1) { p->workspace = *(const uint64_t *)value; return bytes != 8; }
    if (attribute == 3) { p->reduction = *(const uint32_t *)value; return bytes != 4; }
    if (attribute < 5 || attribute > 8) return 7;
    p->alignment[attribute - 5] = *(const uint32_t *)value;
    return bytes != 4;
}

struct result { uint64_t algo[8]; size_t workspace; int state; float waves; int reserved[4]; };
int cublasLtMatmulAlgoGetHeuristic(void *h, struct desc *d, struct layout *a, struct layout *b, struct layout *c,
                                   struct layout *out, struct preference *p, int wanted, struct result *results, int *found)
{
    (void)h, (void)a, (void)b, (void)c, (void)out;
    heuristics++;
    seen = *p;
    compute = d->compute;
    *found = 0;
    if (refuse) return refuse;
    if (wanted != 1) return 7;
    memset(results, 0, sizeof *results);
    results->algo[0] = 0xa190;
    *found = 1;
    return 0;
}

static float at(const float *m, const struct layout *l, int trans, int64_t row, int64_t col)
{
    return trans ? m[col + row * l->ld] : m[row + col * l->ld];
}
int cublasLtMatmul(void *h, struct desc *d, const float *alpha, const float *a, struct layout *la, const float *b,
                   struct layout *lb, const float *beta, const float *c, struct layout *lc, float *out, struct layout *lo,
                   const uint64_t *algo, void *workspace, size_t workspaceBytes, void *stream)
{
    (void)h;
    if (algo[0] != 0xa190 || !workspace || !workspaceBytes || !stream) return 7;
    int64_t rows = lo->rows, cols = lo->cols, depth = d->transA ? la->rows : la->cols;
    if ((int64_t)(d->transA ? la->cols : la->rows) != rows || (int64_t)(d->transB ? lb->rows : lb->cols) != cols) return 7;
    if ((int64_t)(d->transB ? lb->cols : lb->rows) != depth) return 7;
    for (int n = 0; n < lo->batch; n++)
        for (int64_t i = 0; i < rows; i++)
            for (int64_t j = 0; j < cols; j++) {
                float sum = 0;
                for (int64_t l = 0; l < depth; l++)
                    sum += at(a + n * la->stride, la, d->transA, i, l) * at(b + n * lb->stride, lb, d->transB, l, j);
                sum *= *alpha;
                if (*beta != 0) sum += *beta * at(c + n * lc->stride, lc, 0, i, j);
                if (d->epilogue == 4) sum += d->bias[i];
                out[n * lo->stride + i + j * lo->ld] = sum;
            }
    return 0;
}
