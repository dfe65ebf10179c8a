/* A scripted libnvidia-ml.so.1: the unmodified nvidia-ml-py runs against it without a GPU or a driver.
 *
 * What it answers is in the scenario file (README.md), read again whenever it changes. A function that is not defined
 * here makes nvidia-ml-py raise NVMLError_FunctionNotFound, as an old driver would. Values are plausible, not recorded.
 * This file: the library, the system, handles and events. A GPU itself is in devices.c, its neighbours in topology.c.
 */
#include "nvml.h"

#include <pthread.h>
#include <string.h>
#include <strings.h>
#include <time.h>

static int initialized, xids_told;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static void sleep_ms(int ms) {
  struct timespec duration = {ms / 1000, (ms % 1000) * 1000000L};
  nanosleep(&duration, NULL);
}

/* By address, not by `index`: a handle outlives its GPU's section in the file. */
static int position(const device *d) { return d ? (int)((d->parent ? d->parent : d) - scenario.gpus) : -1; }

static result scripted_error(const char *function, const device *d) {
  int delay_ms;
  pthread_mutex_lock(&lock);
  scenario_refresh();
  result code = scenario_error(function, position(d), &delay_ms);
  pthread_mutex_unlock(&lock);
  if (delay_ms) sleep_ms(delay_ms);
  return code;
}

result refusal(const char *function, const device *d) {
  REQUIRE(initialized, UNINITIALIZED);
  result scripted = scripted_error(function, d);
  if (scripted) return scripted;
  return position(d) < scenario.gpu_count ? SUCCESS : GPU_IS_LOST;
}

result copy_text(char *buffer, u32 size, const char *text) {
  REQUIRE(strlen(text) < size, INSUFFICIENT_SIZE);
  strcpy(buffer, text);
  return SUCCESS;
}

/* ---- library and system ---- */

result nvmlInitWithFlags(u32 flags) {
  (void)flags;
  REQUIRE(scenario_present(), DRIVER_NOT_LOADED);
  result scripted = scripted_error(__func__, NULL);
  if (!scripted) initialized++;
  return scripted;
}

result nvmlInit_v2(void) { return nvmlInitWithFlags(0); }

result nvmlShutdown(void) {
  REQUIRE(initialized, UNINITIALIZED);
  initialized--;
  return SUCCESS;
}

const char *nvmlErrorString(result code) {
  static const struct { result code; const char *text; } TEXTS[] = {
      {0, "Success"}, {1, "Uninitialized"}, {2, "Invalid Argument"}, {3, "Not Supported"},
      {4, "Insufficient Permissions"}, {6, "Not Found"}, {7, "Insufficient Size"}, {9, "Driver Not Loaded"},
      {10, "Timeout"}, {13, "Function Not Found"}, {15, "GPU is lost"}, {16, "GPU requires restart"},
      {18, "Driver/library version mismatch"}, {25, "Version mismatch"},
  };
  for (size_t i = 0; i < sizeof TEXTS / sizeof *TEXTS; i++)
    if (TEXTS[i].code == code) return TEXTS[i].text;
  return "Unknown Error";
}

result nvmlSystemGetDriverVersion(char *text, u32 size) {
  BEFORE(NULL);
  return copy_text(text, size, scenario.driver_version);
}

result nvmlSystemGetNVMLVersion(char *text, u32 size) {
  BEFORE(NULL);
  return copy_text(text, size, scenario.nvml_version);
}

result nvmlSystemGetCudaDriverVersion(int *version) {
  BEFORE(NULL);
  *version = scenario.cuda_version;
  return SUCCESS;
}

result nvmlSystemGetCudaDriverVersion_v2(int *version) {
  BEFORE(NULL);
  *version = scenario.cuda_version;
  return SUCCESS;
}

result nvmlDeviceGetCount_v2(u32 *count) {
  BEFORE(NULL);
  *count = scenario.gpu_count;
  return SUCCESS;
}

/* ---- handles ---- */

result nvmlDeviceGetHandleByIndex_v2(u32 index, device **handle) {
  REQUIRE(initialized, UNINITIALIZED);
  REQUIRE(index < MAX_GPUS, INVALID_ARGUMENT);
  result scripted = scripted_error(__func__, &scenario.gpus[index]);
  REQUIRE(!scripted, scripted);
  REQUIRE((int)index < scenario.gpu_count, INVALID_ARGUMENT);
  *handle = &scenario.gpus[index];
  return SUCCESS;
}

result nvmlDeviceGetHandleByUUID(const char *uuid, device **handle) {
  BEFORE(NULL);
  for (int i = 0; i < scenario.gpu_count; i++)
    if (!strcmp(scenario.gpus[i].uuid, uuid)) { *handle = &scenario.gpus[i]; return SUCCESS; }
  for (int i = 0; i < scenario.mig_count; i++)
    if (!strcmp(scenario.migs[i].uuid, uuid)) { *handle = &scenario.migs[i]; return SUCCESS; }
  return NOT_FOUND;
}

result nvmlDeviceGetHandleByPciBusId_v2(const char *pci_bus_id, device **handle) {
  BEFORE(NULL);
  for (int i = 0; i < scenario.gpu_count; i++) {
    const char *known = scenario.gpus[i].pci_bus_id; /* 00000000:1B:00.0, asked for with 8 or 4 digits of domain */
    if (!strcasecmp(known, pci_bus_id) || (strlen(known) > 4 && !strcasecmp(known + 4, pci_bus_id))) {
      *handle = &scenario.gpus[i];
      return SUCCESS;
    }
  }
  return NOT_FOUND;
}

/* ---- events: one queue per process, and only Xids are told ---- */

struct event { device *d; u64 type, data; u32 gpu_instance, compute_instance; };

result nvmlEventSetCreate(void **set) { BEFORE(NULL); *set = &xids_told; return SUCCESS; }
result nvmlEventSetFree(void *set) { (void)set; return SUCCESS; }
result nvmlDeviceGetSupportedEventTypes(device *d, u64 *types) { BEFORE(d); *types = 8; return SUCCESS; }

result nvmlDeviceRegisterEvents(device *d, u64 types, void *set) {
  (void)types;
  (void)set;
  BEFORE(d);
  return SUCCESS;
}

result nvmlEventSetWait_v2(void *set, struct event *out, u32 timeout_ms) {
  (void)set;
  for (u32 waited = 0;; waited += 20) {
    BEFORE(NULL);
    if (xids_told < scenario.xid_count) {
      memset(out, 0, sizeof *out);
      out->d = &scenario.gpus[scenario.xids[xids_told].gpu];
      out->type = 8; /* nvmlEventTypeXidCriticalError */
      out->data = scenario.xids[xids_told++].xid;
      out->gpu_instance = out->compute_instance = 0xFFFFFFFF;
      return SUCCESS;
    }
    REQUIRE(waited < timeout_ms, TIMEOUT);
    sleep_ms(20);
  }
}
