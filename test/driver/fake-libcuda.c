/*
 * A CUDA driver without a GPU: answers like libcuda as far as llcuda asks, fails where a test says so, and records what
 * launches looked like from the driver's side. -DDRIVER=11000 leaves out what came later.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifndef DRIVER
#define DRIVER 13000
#endif

typedef int CUresult;
typedef void *H;

static int version = DRIVER, devices = 2, capability = 90;
static char failing[64];
static int failing_status;
static const char *jit_log = "";

void fake_version(int v) { version = v; }
void fake_devices(int n) { devices = n; }
void fake_capability(int c) { capability = c; }
void fake_jit_log(const char *text) { jit_log = strdup(text); }
/* Calls of `symbol` return `status` from now on; an empty name ends that. */
void fake_fail(const char *symbol, int status)
{
    snprintf(failing, sizeof failing, "%s", symbol);
    failing_status = status;
}
#define CHECK \
    do { if (strcmp(failing, __func__) == 0) return failing_status; } while (0)

/* The last launch: shape, stream, arguments, attribute. */
static struct {
    uint32_t grid[3], block[3], shared, argBytes, attribute, attributeValue;
    uint64_t fn, stream;
    uint8_t args[64];
} launched;
void *fake_launched(void) { return &launched; }
static char text[4096];
const char *fake_text(void) { return text; }
static uint64_t numbers[32];
void *fake_numbers(void) { return numbers; }

CUresult cuDriverGetVersion(int *v) { CHECK; *v = version; return 0; }
CUresult cuInit(unsigned flags) { (void)flags; CHECK; return devices ? 0 : 100; }
CUresult cuDeviceGetCount(int *n) { CHECK; *n = devices; return 0; }
CUresult cuDeviceGetName(char *name, int bytes, int device) { CHECK; snprintf(name, bytes, "Fake GPU %d", device); return 0; }
CUresult cuDeviceGetUuid(uint8_t *uuid, int device) { CHECK; for (int i = 0; i < 16; i++) uuid[i] = 16 * i + device; return 0; }
CUresult cuDeviceTotalMem_v2(size_t *bytes, int device) { (void)device; CHECK; *bytes = (size_t)141 << 30; return 0; }
CUresult cuDeviceGetAttribute(int *value, int attribute, int device)
{
    (void)device;
    CHECK;
    *value = attribute == 75 ? capability / 10 : attribute == 76 ? capability % 10 : attribute;
    return 0;
}
CUresult cuDeviceGetPCIBusId(char *id, int bytes, int device) { CHECK; snprintf(id, bytes, "0000:1%d:00.0", device); return 0; }
CUresult cuDeviceCanAccessPeer(int *can, int a, int b) { CHECK; *can = a != b; return 0; }
CUresult cuDevicePrimaryCtxRetain(H *context, int device) { CHECK; *context = (H)(uintptr_t)(0xc000 + device); return 0; }
CUresult cuDevicePrimaryCtxRelease_v2(int device) { (void)device; CHECK; return 0; }
CUresult cuCtxSetCurrent(H context) { (void)context; CHECK; return 0; }
CUresult cuCtxSynchronize(void) { CHECK; return 0; }
CUresult cuCtxEnablePeerAccess(H context, unsigned flags) { (void)context, (void)flags; CHECK; return 0; }
CUresult cuMemGetInfo_v2(size_t *free, size_t *total) { CHECK; *free = 5000000000u; *total = (size_t)141 << 30; return 0; }
CUresult cuMemAlloc_v2(uint64_t *p, size_t bytes) { CHECK; *p = 0x7f0000000000u + bytes; return 0; }
CUresult cuMemFree_v2(uint64_t p) { (void)p; CHECK; return 0; }
static uint8_t pinned[1 << 16];
CUresult cuMemHostAlloc(void **p, size_t bytes, unsigned flags)
{
    CHECK;
    numbers[0] = flags;
    if (bytes == 0 || bytes > sizeof pinned) return 1;
    *p = pinned;
    return 0;
}
CUresult cuMemHostGetDevicePointer_v2(uint64_t *p, void *host, unsigned flags) { (void)host, (void)flags; CHECK; *p = 0xd00d0000u; return 0; }
CUresult cuMemFreeHost(void *p) { numbers[1] = (uintptr_t)p; CHECK; return 0; }
CUresult cuMemcpyHtoDAsync_v2(uint64_t d, void *s, size_t n, H stream)
{
    CHECK;
    numbers[2] = d, numbers[3] = (uintptr_t)s, numbers[4] = n, numbers[5] = (uintptr_t)stream;
    return 0;
}
CUresult cuMemsetD8Async(uint64_t d, unsigned char v, size_t n, H stream)
{
    CHECK;
    numbers[2] = d, numbers[3] = v, numbers[4] = n, numbers[5] = (uintptr_t)stream;
    return 0;
}
CUresult cuMemsetD32Async(uint64_t d, unsigned v, size_t n, H stream)
{
    CHECK;
    numbers[2] = d, numbers[3] = v, numbers[4] = n, numbers[5] = (uintptr_t)stream;
    return 0;
}
CUresult cuStreamCreateWithPriority(H *stream, unsigned flags, int priority)
{
    CHECK;
    numbers[6] = flags, numbers[7] = (uint64_t)(int64_t)priority;
    *stream = (H)0xffffffff00005000u;
    return 0;
}
CUresult cuStreamDestroy_v2(H stream) { (void)stream; CHECK; return 0; }
CUresult cuStreamSynchronize(H stream) { (void)stream; CHECK; return 0; }
CUresult cuStreamQuery(H stream) { (void)stream; CHECK; return 0; }
CUresult cuEventCreate(H *event, unsigned flags) { CHECK; *event = (H)(uintptr_t)(0xe000 + flags); return 0; }
CUresult cuEventRecord(H event, H stream) { (void)event, (void)stream; CHECK; return 0; }
CUresult cuEventQuery(H event) { (void)event; CHECK; return 0; }
CUresult cuEventElapsedTime(float *ms, H a, H b) { (void)a, (void)b; CHECK; *ms = 0.25f; return 0; }

CUresult cuModuleLoadDataEx(H *module, const void *image, unsigned count, const int *options, void **values)
{
    snprintf(text, sizeof text, "%s", (const char *)image);
    for (unsigned i = 0; i < count; i++) {
        if (options[i] == 5) snprintf(values[i], (size_t)values[i + 1], "%s", jit_log);
    }
    CHECK;
    *module = (H)0x30d;
    return 0;
}
CUresult cuModuleUnload(H module) { (void)module; CHECK; return 0; }
CUresult cuModuleGetFunction(H *fn, H module, const char *name)
{
    (void)module;
    CHECK;
    snprintf(text, sizeof text, "%s", name);
    *fn = (H)0xf0f0;
    return 0;
}
CUresult cuFuncGetAttribute(int *value, int attribute, H fn) { (void)fn; CHECK; *value = 100 + attribute; return 0; }
CUresult cuFuncSetAttribute(H fn, int attribute, int value) { (void)fn; CHECK; numbers[8] = attribute, numbers[9] = value; return 0; }
CUresult cuOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, H fn, int threads, size_t shared)
{
    (void)fn;
    CHECK;
    *blocks = threads + (int)shared;
    return 0;
}

static CUresult take_arguments(void **extra)
{
    uintptr_t *e = (uintptr_t *)extra;
    if (e[0] != 1 || e[2] != 2 || e[4] != 0) return 1;
    size_t bytes = *(size_t *)e[3];
    if (bytes > sizeof launched.args) return 1;
    launched.argBytes = bytes;
    memcpy(launched.args, (void *)e[1], bytes);
    return 0;
}
CUresult cuLaunchKernel(H fn, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned shared,
                        H stream, void **parameters, void **extra)
{
    CHECK;
    if (parameters) return 1;
    memset(&launched, 0, sizeof launched);
    launched.grid[0] = gx, launched.grid[1] = gy, launched.grid[2] = gz;
    launched.block[0] = bx, launched.block[1] = by, launched.block[2] = bz;
    launched.shared = shared, launched.fn = (uintptr_t)fn, launched.stream = (uintptr_t)stream;
    return take_arguments(extra);
}

CUresult cuStreamBeginCapture_v2(H stream, int mode) { (void)stream; CHECK; numbers[10] = mode; return 0; }
CUresult cuStreamEndCapture(H stream, H *graph) { (void)stream; CHECK; *graph = (H)0x6a9; return 0; }
CUresult cuGraphDestroy(H graph) { (void)graph; CHECK; return 0; }
CUresult cuGraphGetNodes(H graph, H *nodes, size_t *count) { (void)graph; CHECK; *count = 7; return nodes ? 1 : 0; }
CUresult cuGraphLaunch(H exec, H stream) { (void)exec, (void)stream; CHECK; return 0; }
CUresult cuGraphExecDestroy(H exec) { (void)exec; CHECK; return 0; }
CUresult cuGraphInstantiate_v2(H *exec, H graph, H *node, char *log, size_t bytes)
{
    (void)graph;
    CHECK;
    *exec = (H)0x2222;
    return node || log || bytes ? 1 : 0;
}
CUresult cuGraphExecUpdate(H exec, H graph, H *node, int *result) { (void)exec, (void)graph; CHECK; *node = 0; *result = 0; return 0; }

#if DRIVER >= 11040
CUresult cuGraphInstantiateWithFlags(H *exec, H graph, unsigned long long flags)
{
    (void)graph;
    CHECK;
    *exec = (H)0x3333;
    return flags ? 1 : 0;
}
#endif
#if DRIVER >= 11080
struct config {
    unsigned grid[3], block[3], shared;
    H stream;
    struct { int id; char pad[4]; union { int value; unsigned cluster[3]; char bytes[64]; }; } *attributes;
    unsigned attributeCount;
};
CUresult cuLaunchKernelEx(const struct config *c, H fn, void **parameters, void **extra)
{
    CHECK;
    if (parameters || c->attributeCount < 1 || c->attributeCount > 2) return 1;
    memset(&launched, 0, sizeof launched);
    memcpy(launched.grid, c->grid, sizeof c->grid);
    memcpy(launched.block, c->block, sizeof c->block);
    launched.shared = c->shared, launched.fn = (uintptr_t)fn, launched.stream = (uintptr_t)c->stream;
    for (unsigned i = 0; i < 3; i++) numbers[12 + i] = 0;
    for (unsigned i = 0; i < c->attributeCount; i++) {
        if (c->attributes[i].id == 4)
            for (unsigned j = 0; j < 3; j++) numbers[12 + j] = c->attributes[i].cluster[j];
        else launched.attribute = c->attributes[i].id, launched.attributeValue = c->attributes[i].value;
    }
    return take_arguments(extra);
}
#endif
#if DRIVER >= 12000
CUresult cuGraphExecUpdate_v2(H exec, H graph, void *info) { (void)exec, (void)graph; CHECK; memset(info, 0, 24); return 0; }
CUresult cuTensorMapEncodeTiled(void *map, int type, unsigned rank, uint64_t address, const uint64_t *dims,
                                const uint64_t *strides, const uint32_t *box, const uint32_t *steps, int interleave,
                                int swizzle, int promotion, int fill)
{
    CHECK;
    if ((uintptr_t)map % 64) return 1;
    uint64_t *n = numbers;
    *n++ = type, *n++ = rank, *n++ = address, *n++ = interleave, *n++ = swizzle, *n++ = promotion, *n++ = fill;
    for (unsigned i = 0; i < rank; i++) *n++ = dims[i];
    for (unsigned i = 0; i + 1 < rank; i++) *n++ = strides[i];
    for (unsigned i = 0; i < rank; i++) *n++ = box[i];
    for (unsigned i = 0; i < rank; i++) *n++ = steps[i];
    memset(map, 0xab, 128);
    return 0;
}
#endif
