/* What one GPU tells about itself. */
#include "nvml.h"

#include <stdio.h>
#include <string.h>

/* ---- identity, memory, sensors ---- */

struct memory { u64 total, free, used; };
struct memory_v2 { u32 version; u64 total, reserved, free, used; };
struct temperature { u32 version, sensor; int celsius; };
struct utilization { u32 gpu, memory; };

static u64 free_bytes(const device *d) {
  long long left = d->memory_total_bytes - d->memory_used_bytes - d->memory_reserved_bytes;
  return left > 0 ? left : 0;
}

result pci_info(const char *bus_id, struct pci *out) {
  memset(out, 0, sizeof *out);
  sscanf(bus_id, "%x:%x:%x", &out->domain, &out->bus, &out->device);
  snprintf(out->bus_id, sizeof out->bus_id, "%s", bus_id);
  snprintf(out->legacy_id, sizeof out->legacy_id, "%04X:%02X:%02X.0", out->domain & 0xffff, out->bus & 0xff,
           out->device & 0xff);
  return SUCCESS;
}

result nvmlDeviceGetName(device *d, char *text, u32 size) { BEFORE(d); return copy_text(text, size, d->name); }
result nvmlDeviceGetUUID(device *d, char *text, u32 size) { BEFORE(d); return copy_text(text, size, d->uuid); }
NUMBER(nvmlDeviceGetIndex, u32, 1, d->index)
NUMBER(nvmlDeviceGetNumaNodeId, u32, d->numa_node >= 0, d->numa_node)
NUMBER(nvmlDeviceGetPowerUsage, u32, !d->parent, d->power_mw)
NUMBER(nvmlDeviceGetEnforcedPowerLimit, u32, !d->virtualization_mode, d->power_limit_mw)
NUMBER(nvmlDeviceGetPowerManagementDefaultLimit, u32, !d->virtualization_mode,
       d->power_default_mw ? d->power_default_mw : d->power_limit_mw)
NUMBER(nvmlDeviceGetComputeMode, u32, 1, d->compute_mode)
NUMBER(nvmlDeviceGetPersistenceMode, u32, 1, d->persistence_mode)
NUMBER(nvmlDeviceGetVirtualizationMode, u32, 1, d->virtualization_mode)
NUMBER(nvmlDeviceGetMaxPcieLinkGeneration, u32, 1, d->pcie_generation)
NUMBER(nvmlDeviceGetCurrPcieLinkGeneration, u32, 1, d->pcie_generation)
NUMBER(nvmlDeviceGetCurrPcieLinkWidth, u32, 1, d->pcie_width)

result nvmlDeviceGetMemoryInfo(device *d, struct memory *out) {
  BEFORE(d);
  REQUIRE(d->memory_supported, NOT_SUPPORTED);
  out->total = d->memory_total_bytes;
  out->free = free_bytes(d);
  out->used = d->memory_used_bytes + d->memory_reserved_bytes; /* version 1 counts the reserve as used */
  return SUCCESS;
}

result nvmlDeviceGetMemoryInfo_v2(device *d, struct memory_v2 *out) {
  BEFORE(d);
  REQUIRE(d->memory_supported, NOT_SUPPORTED);
  REQUIRE(out->version == 0x02000028, ARGUMENT_VERSION_MISMATCH);
  out->total = d->memory_total_bytes;
  out->reserved = d->memory_reserved_bytes;
  out->free = free_bytes(d);
  out->used = d->memory_used_bytes;
  return SUCCESS;
}

result nvmlDeviceGetCudaComputeCapability(device *d, int *major, int *minor) {
  BEFORE(d);
  const device *gpu = d->parent ? d->parent : d;
  *major = gpu->compute_major;
  *minor = gpu->compute_minor;
  return SUCCESS;
}

result nvmlDeviceGetPciInfo_v3(device *d, struct pci *out) {
  BEFORE(d);
  REQUIRE(!d->parent, NOT_SUPPORTED);
  return pci_info(d->pci_bus_id, out);
}

result nvmlDeviceGetTemperature(device *d, u32 sensor, u32 *celsius) {
  (void)sensor;
  BEFORE(d);
  *celsius = d->temperature_c;
  return SUCCESS;
}

result nvmlDeviceGetTemperatureV(device *d, struct temperature *out) {
  BEFORE(d);
  REQUIRE(out->version == 0x100000C, ARGUMENT_VERSION_MISMATCH);
  out->celsius = d->temperature_c;
  return SUCCESS;
}

result nvmlDeviceGetUtilizationRates(device *d, struct utilization *out) {
  BEFORE(d);
  REQUIRE(!d->parent && !d->mig_mode, NOT_SUPPORTED);
  out->gpu = d->utilization;
  out->memory = d->memory_utilization;
  return SUCCESS;
}

/* ---- errors that the hardware counts ---- */

result nvmlDeviceGetEccMode(device *d, u32 *current, u32 *pending) {
  BEFORE(d);
  REQUIRE(d->ecc_supported, NOT_SUPPORTED);
  *current = *pending = d->ecc_enabled;
  return SUCCESS;
}

result nvmlDeviceGetTotalEccErrors(device *d, u32 kind, u32 counter, u64 *out) {
  (void)counter;
  BEFORE(d);
  REQUIRE(d->ecc_supported, NOT_SUPPORTED);
  *out = kind == 1 ? d->ecc_uncorrected : d->ecc_corrected;
  return SUCCESS;
}

result nvmlDeviceGetRemappedRows(device *d, u32 *corrected, u32 *uncorrected, u32 *pending, u32 *failed) {
  BEFORE(d);
  REQUIRE(d->ecc_supported, NOT_SUPPORTED);
  *corrected = 0;
  *uncorrected = d->ecc_uncorrected > 0;
  *pending = d->remap_pending;
  *failed = d->remap_failed;
  return SUCCESS;
}

/* ---- who uses it ---- */

struct process { u32 pid; u64 used; u32 gpu_instance, compute_instance; };

result nvmlDeviceGetComputeRunningProcesses_v3(device *d, u32 *count, struct process *out) {
  BEFORE(d);
  u32 room = *count;
  *count = d->process_count;
  REQUIRE(!*count || (out && room >= *count), INSUFFICIENT_SIZE);
  for (u32 i = 0; i < *count; i++)
    out[i] = (struct process){d->processes[i].pid, d->processes[i].used_bytes, 0xFFFFFFFF, 0xFFFFFFFF};
  return SUCCESS;
}

result nvmlDeviceGetGraphicsRunningProcesses_v3(device *d, u32 *count, struct process *out) {
  (void)out;
  BEFORE(d);
  *count = 0;
  return SUCCESS;
}
