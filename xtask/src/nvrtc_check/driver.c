/* A CUDA driver without a GPU: what cubecl-cuda asks of libcuda, with memory of the host, and launches that do nothing.
 *
 * NVRTC compiles for the device that a driver reports, whether or not there is one. With this in the place of libcuda it compiles
 * each kernel that a test launches, on any machine. Copies copy; kernels leave their results unwritten, so that only tests which
 * do not look at numbers can pass. The name of each kernel is appended to the file that SOFTWARE_CUDA_LOG names.
 *
 * Prototypes are those of CUDA's driver API (cuda.h), with handles as pointers that nothing points to.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

typedef int Result;
typedef uint64_t Address;
enum { SUCCESS = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, NOT_INITIALIZED_DEVICE = 101 };

#define MEMORY ((size_t)141 << 30)

/* A handle that differs from all others. */
static void *handle(void) {
    static uintptr_t last = 0x1000;
    return (void *)__atomic_add_fetch(&last, 16, __ATOMIC_RELAXED);
}

/* The device: one H200. */
Result cuInit(unsigned flags) { return SUCCESS; }
Result cuDriverGetVersion(int *version) { *version = 13000; return SUCCESS; }
Result cuDeviceGetCount(int *count) { *count = 1; return SUCCESS; }
Result cuDeviceGet(int *device, int ordinal) {
    *device = ordinal;
    return ordinal == 0 ? SUCCESS : NOT_INITIALIZED_DEVICE;
}
Result cuDeviceGetName(char *name, int length, int device) {
    snprintf(name, (size_t)length, "Software H200");
    return SUCCESS;
}
Result cuDeviceGetPCIBusId(char *name, int length, int device) {
    snprintf(name, (size_t)length, "0000:01:00.0");
    return SUCCESS;
}
Result cuDeviceGetAttribute(int *value, int attribute, int device) {
    static const struct { int attribute, value; } known[] = {
        {1, 1024},        /* threads per block */
        {2, 1024}, {3, 1024}, {4, 64}, /* block dimensions */
        {5, 2147483647}, {6, 65535}, {7, 65535}, /* grid dimensions */
        {8, 49152},       /* shared memory per block */
        {10, 32},         /* warp size */
        {16, 132},        /* multiprocessors */
        {75, 9}, {76, 0}, /* compute capability */
        {97, 232448},     /* shared memory per block, opted in */
    };
    *value = 1;
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (known[i].attribute == attribute) *value = known[i].value;
    return SUCCESS;
}
Result cuDeviceTotalMem_v2(size_t *bytes, int device) { *bytes = MEMORY; return SUCCESS; }
Result cuMemGetInfo_v2(size_t *available, size_t *total) { *available = *total = MEMORY; return SUCCESS; }
Result cuDeviceCanAccessPeer(int *can, int device, int peer) { *can = 0; return SUCCESS; }

/* Contexts, streams and events: everything has happened by the time it is asked for. */
static void *const CONTEXT = (void *)0x1000;
Result cuDevicePrimaryCtxRetain(void **context, int device) { *context = CONTEXT; return SUCCESS; }
Result cuDevicePrimaryCtxRelease_v2(int device) { return SUCCESS; }
Result cuCtxGetCurrent(void **context) { *context = CONTEXT; return SUCCESS; }
Result cuCtxSetCurrent(void *context) { return SUCCESS; }
Result cuCtxSynchronize(void) { return SUCCESS; }
Result cuCtxGetStreamPriorityRange(int *least, int *greatest) { *least = *greatest = 0; return SUCCESS; }
Result cuStreamCreate(void **stream, unsigned flags) { *stream = handle(); return SUCCESS; }
Result cuStreamCreateWithPriority(void **stream, unsigned flags, int priority) { *stream = handle(); return SUCCESS; }
Result cuStreamGetPriority(void *stream, int *priority) { *priority = 0; return SUCCESS; }
Result cuStreamDestroy_v2(void *stream) { return SUCCESS; }
Result cuStreamSynchronize(void *stream) { return SUCCESS; }
Result cuStreamWaitEvent(void *stream, void *event, unsigned flags) { return SUCCESS; }
Result cuStreamIsCapturing(void *stream, int *status) { *status = 0; return SUCCESS; }
Result cuLaunchHostFunc(void *stream, void (*function)(void *), void *data) { function(data); return SUCCESS; }
Result cuEventCreate(void **event, unsigned flags) { *event = handle(); return SUCCESS; }
Result cuEventDestroy_v2(void *event) { return SUCCESS; }
Result cuEventRecord(void *event, void *stream) { return SUCCESS; }
Result cuEventQuery(void *event) { return SUCCESS; }
Result cuEventSynchronize(void *event) { return SUCCESS; }
Result cuEventElapsedTime_v2(float *milliseconds, void *start, void *end) { *milliseconds = 1; return SUCCESS; }
Result cuEventElapsedTime(float *milliseconds, void *start, void *end) { *milliseconds = 1; return SUCCESS; }

/* Memory of the host, of which untouched pages cost nothing. */
static Result allocate(void **memory, size_t bytes) {
    size_t size = bytes ? bytes : 1;
    void *mapped = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (mapped == MAP_FAILED) return OUT_OF_MEMORY;
    *memory = mapped;
    return SUCCESS;
}
Result cuMemAlloc_v2(Address *memory, size_t bytes) { return allocate((void **)memory, bytes); }
Result cuMemAllocAsync(Address *memory, size_t bytes, void *stream) { return allocate((void **)memory, bytes); }
Result cuMemAllocHost_v2(void **memory, size_t bytes) { return allocate(memory, bytes); }
Result cuMemHostAlloc(void **memory, size_t bytes, unsigned flags) { return allocate(memory, bytes); }
/* The size is not known here, and a process of tests is short. */
Result cuMemFree_v2(Address memory) { return SUCCESS; }
Result cuMemFreeAsync(Address memory, void *stream) { return SUCCESS; }
Result cuMemFreeHost(void *memory) { return SUCCESS; }

static Result copy(void *to, const void *from, size_t bytes) { memmove(to, from, bytes); return SUCCESS; }
Result cuMemcpyHtoDAsync_v2(Address to, const void *from, size_t bytes, void *stream) { return copy((void *)to, from, bytes); }
Result cuMemcpyDtoHAsync_v2(void *to, Address from, size_t bytes, void *stream) { return copy(to, (void *)from, bytes); }
Result cuMemcpyDtoDAsync_v2(Address to, Address from, size_t bytes, void *stream) {
    return copy((void *)to, (void *)from, bytes);
}
Result cuMemcpyPeerAsync(Address to, void *to_context, Address from, void *from_context, size_t bytes, void *stream) {
    return copy((void *)to, (void *)from, bytes);
}
Result cuMemsetD8Async(Address memory, unsigned char value, size_t count, void *stream) {
    memset((void *)memory, value, count);
    return SUCCESS;
}
Result cuMemsetD32Async(Address memory, unsigned value, size_t count, void *stream) {
    for (size_t i = 0; i < count; i++) ((uint32_t *)memory)[i] = value;
    return SUCCESS;
}
/* CUDA_MEMCPY2D_v2 */
struct side { size_t x, y; int kind; const void *host; Address device; void *array; size_t pitch; };
struct copy_2d { struct side from, to; size_t width, height; };
static char *start_of(const struct side *side) {
    char *memory = side->kind == 1 ? (char *)side->host : (char *)side->device;
    return memory + side->y * side->pitch + side->x;
}
Result cuMemcpy2DAsync_v2(const struct copy_2d *rows, void *stream) {
    for (size_t y = 0; y < rows->height; y++)
        memmove(start_of(&rows->to) + y * rows->to.pitch, start_of(&rows->from) + y * rows->from.pitch, rows->width);
    return SUCCESS;
}
Result cuPointerGetAttribute(void *data, int attribute, Address memory) { return INVALID_VALUE; }

/* Kernels: loaded, noted, not run. */
Result cuModuleLoadData(void **module, const void *image) { *module = handle(); return SUCCESS; }
Result cuModuleUnload(void *module) { return SUCCESS; }
Result cuModuleGetFunction(void **function, void *module, const char *name) {
    const char *log = getenv("SOFTWARE_CUDA_LOG");
    FILE *file = log ? fopen(log, "a") : NULL;
    if (file) {
        fprintf(file, "%s\n", name);
        fclose(file);
    }
    *function = handle();
    return SUCCESS;
}
Result cuFuncSetAttribute(void *function, int attribute, int value) { return SUCCESS; }
Result cuFuncGetAttribute(int *value, int attribute, void *function) { *value = 0; return SUCCESS; }
Result cuOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, void *function, int size, size_t shared) {
    *blocks = 1;
    return SUCCESS;
}
Result cuLaunchKernel(void *function, unsigned x, unsigned y, unsigned z, unsigned units_x, unsigned units_y,
                      unsigned units_z, unsigned shared, void *stream, void **arguments, void **extra) {
    return SUCCESS;
}
Result cuLaunchKernelEx(const void *config, void *function, void **arguments, void **extra) { return SUCCESS; }
Result cuTensorMapEncodeTiled(void *map) { memset(map, 0, 128); return SUCCESS; }
Result cuTensorMapEncodeIm2col(void *map) { memset(map, 0, 128); return SUCCESS; }
Result cuTensorMapEncodeIm2colWide(void *map) { memset(map, 0, 128); return SUCCESS; }

/* Recordings of nothing. */
Result cuStreamBeginCapture_v2(void *stream, int mode) { return SUCCESS; }
Result cuStreamEndCapture(void *stream, void **graph) { *graph = handle(); return SUCCESS; }
Result cuGraphInstantiateWithFlags(void **executable, void *graph, unsigned long long flags) {
    *executable = handle();
    return SUCCESS;
}
Result cuGraphGetNodes(void *graph, void *nodes, size_t *count) { *count = 0; return SUCCESS; }
Result cuGraphUpload(void *executable, void *stream) { return SUCCESS; }
Result cuGraphLaunch(void *executable, void *stream) { return SUCCESS; }
Result cuGraphDestroy(void *graph) { return SUCCESS; }
Result cuGraphExecDestroy(void *executable) { return SUCCESS; }

Result cuGetErrorName(Result error, const char **text) { *text = "SOFTWARE_CUDA_ERROR"; return SUCCESS; }
Result cuGetErrorString(Result error, const char **text) { *text = "the software driver refused"; return SUCCESS; }
