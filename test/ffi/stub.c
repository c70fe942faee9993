/* What the engines' tests call: one function per way in which values cross the boundary. */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

int32_t same_i32(int32_t v) { return v; }
uint32_t same_u32(uint32_t v) { return v; }
size_t same_usize(size_t v) { return v; }
void *same_ptr(void *v) { return v; }

static int called;
void count_call(void) { called++; }
int32_t calls_so_far(void) { return called; }

/* Every argument at a different weight, so that a swapped or truncated one shows. */
uint32_t weigh(uint32_t a, int32_t b, size_t c, void *d, uint32_t e, uint32_t f, uint32_t g, uint32_t h, void *i, void *j,
               size_t k)
{
    return a + 3u * (uint32_t)b + 5u * (uint32_t)(c >> 32) + 7u * (uint32_t)((uintptr_t)d >> 32) + 11u * e + 13u * f +
           17u * g + 19u * h + 23u * (uint32_t)(uintptr_t)i + 29u * (uint32_t)((uintptr_t)j >> 56) + 31u * (uint32_t)k;
}

const char *greeting(void) { return "gr\xc3\xbc\xc3\x9f \xf0\x9f\x91\x8b"; }

static uint8_t owned[16] = {1, 2, 3};
void *owned_memory(void) { return owned; }
int32_t owned_at(int32_t i) { return owned[i]; }

/* The shape of a C API with statuses and out parameters. */
int32_t api_divide(int32_t a, int32_t b, int32_t *quotient, int32_t *remainder)
{
    if (b == 0) return 7;
    *quotient = a / b;
    *remainder = a % b;
    return 0;
}
int32_t api_allocate(void **out, size_t bytes)
{
    *out = (void *)(uintptr_t)(0xfedcba9800000000u + bytes);
    return 0;
}
int32_t api_elapsed(float *ms, void *event)
{
    *ms = event ? 1.5f : -1.0f;
    return 0;
}
int32_t api_length(const char *text, size_t *bytes, const char *second)
{
    *bytes = strlen(text) * 100 + strlen(second);
    return 0;
}
int32_t api_status(int32_t status) { return status; }
