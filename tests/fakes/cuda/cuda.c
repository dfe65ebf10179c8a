/* A scripted libcuda.so.1: what selfhost asks of it.
 *
 * FAKE_CUDA="802"        cuInit returns that code (cuda.h: CUresult)
 * FAKE_CUDA="0 1"        it succeeds, and there is one device
 * FAKE_CUDA="hang"       it never returns
 * unset                  it succeeds with one device per [gpu] of the scripted NVML (FAKE_NVML)
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int devices_of_nvml(void) {
    const char *path = getenv("FAKE_NVML");
    FILE *file = path ? fopen(path, "r") : NULL;
    char line[512];
    int count = 0;
    while (file && fgets(line, sizeof line, file)) count += strncmp(line, "[gpu]", 5) == 0;
    if (file) fclose(file);
    return count;
}

int cuInit(unsigned flags) {
    const char *script = getenv("FAKE_CUDA");
    (void)flags;
    while (script && strcmp(script, "hang") == 0) pause();
    return script ? atoi(script) : 0;
}

int cuDeviceGetCount(int *count) {
    const char *script = getenv("FAKE_CUDA");
    const char *second = script ? strchr(script, ' ') : NULL;
    *count = second ? atoi(second) : devices_of_nvml();
    return 0;
}
