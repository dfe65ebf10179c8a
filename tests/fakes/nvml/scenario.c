/* Reads a scenario: `key=value` lines, with one `[gpu]` section per GPU and `[mig]` sections after their GPU. */
#include "scenario.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct scenario scenario;

#define TEXT(field) {#field, offsetof(device, field), sizeof(((device *)0)->field)}
#define NUMBER(field) {#field, offsetof(device, field), 0}
static const struct { const char *key; size_t offset, text_size; } DEVICE_KEYS[] = {
    TEXT(name), TEXT(uuid), TEXT(pci_bus_id),
    NUMBER(memory_total_bytes), NUMBER(memory_used_bytes), NUMBER(memory_reserved_bytes), NUMBER(memory_supported),
    NUMBER(numa_node), NUMBER(nvlink_count), NUMBER(nvswitch), NUMBER(pcie_generation), NUMBER(pcie_width),
    NUMBER(mig_capable), NUMBER(mig_mode), NUMBER(gpu_instance), NUMBER(compute_instance), NUMBER(slices),
    NUMBER(multiprocessors), NUMBER(ecc_supported), NUMBER(ecc_enabled), NUMBER(ecc_corrected),
    NUMBER(ecc_uncorrected), NUMBER(remap_pending), NUMBER(remap_failed), NUMBER(power_mw), NUMBER(power_limit_mw),
    NUMBER(power_default_mw), NUMBER(temperature_c), NUMBER(utilization), NUMBER(memory_utilization), NUMBER(virtualization_mode),
    NUMBER(persistence_mode), NUMBER(compute_mode),
};

static device *start_device(device *fresh, int index, device *parent) {
  memset(fresh, 0, sizeof *fresh);
  fresh->index = index;
  fresh->parent = parent;
  fresh->memory_supported = fresh->ecc_supported = fresh->ecc_enabled = fresh->persistence_mode = 1;
  fresh->numa_node = -1;
  fresh->power_mw = 75000;
  fresh->power_limit_mw = 700000;
  fresh->temperature_c = 35;
  fresh->pcie_generation = 5;
  fresh->pcie_width = 16;
  return fresh;
}

static device *start_mig(device *current) {
  device *gpu = current->parent ? current->parent : current;
  device *mig = start_device(&scenario.migs[scenario.mig_count++], gpu->mig_count, gpu);
  gpu->mig[gpu->mig_count++] = mig;
  return mig;
}

static int read_global(const char *key, const char *value) {
  struct scenario *s = &scenario;
  if (!strcmp(key, "driver_version")) return snprintf(s->driver_version, sizeof s->driver_version, "%s", value) > 0;
  if (!strcmp(key, "nvml_version")) return snprintf(s->nvml_version, sizeof s->nvml_version, "%s", value) > 0;
  if (!strcmp(key, "topology_default")) return sscanf(value, "%d", &s->topology_default) == 1;
  if (!strcmp(key, "pcie_p2p")) return sscanf(value, "%d", &s->pcie_p2p) == 1;
  if (!strcmp(key, "cuda_version")) {
    int major, minor, fields = sscanf(value, "%d.%d", &major, &minor);
    s->cuda_version = major * 1000 + minor * 10;
    return fields == 2;
  }
  if (!strcmp(key, "topology")) {
    int i = s->topology_count++;
    return sscanf(value, "%d %d %d", &s->topology[i].a, &s->topology[i].b, &s->topology[i].level) == 3;
  }
  if (!strcmp(key, "xid")) {
    int i = s->xid_count++;
    return sscanf(value, "%d %d", &s->xids[i].gpu, &s->xids[i].xid) == 2;
  }
  if (!strcmp(key, "error")) {
    int i = s->error_count++;
    char gpu[16] = "";
    int fields = sscanf(value, "%63s %15s %d %d", s->errors[i].function, gpu, &s->errors[i].code,
                        &s->errors[i].delay_ms);
    s->errors[i].gpu = *gpu == '*' ? -1 : atoi(gpu);
    return fields >= 3;
  }
  return 0;
}

static int read_device(device *d, const char *key, const char *value) {
  if (!strcmp(key, "compute_capability"))
    return sscanf(value, "%lld.%lld", &d->compute_major, &d->compute_minor) == 2;
  if (!strcmp(key, "nvlink_peers")) return snprintf(d->nvlink_peers, sizeof d->nvlink_peers, " %s ", value) > 0;
  if (!strcmp(key, "process")) {
    int i = d->process_count++;
    return sscanf(value, "%u %llu", &d->processes[i].pid, &d->processes[i].used_bytes) == 2;
  }
  for (size_t i = 0; i < sizeof DEVICE_KEYS / sizeof *DEVICE_KEYS; i++)
    if (!strcmp(key, DEVICE_KEYS[i].key)) {
      char *field = (char *)d + DEVICE_KEYS[i].offset;
      if (DEVICE_KEYS[i].text_size) snprintf(field, DEVICE_KEYS[i].text_size, "%s", value);
      else *(long long *)field = atoll(value);
      return 1;
    }
  return 0;
}

static void read_file(FILE *file, const char *path) {
  memset(&scenario, 0, sizeof scenario);
  scenario.topology_default = 50;
  device *current = NULL;
  char line[512];
  for (int number = 1; fgets(line, sizeof line, file); number++) {
    line[strcspn(line, "\r\n")] = 0;
    char *value = strchr(line, '=');
    if (!*line || *line == '#') continue;
    if (!strcmp(line, "[gpu]")) {
      current = start_device(&scenario.gpus[scenario.gpu_count], scenario.gpu_count, NULL);
      scenario.gpu_count++;
    } else if (!strcmp(line, "[mig]") && current) {
      current = start_mig(current);
    } else {
      if (value) *value++ = 0;
      if (!value || !(current ? read_device(current, line, value) : read_global(line, value))) {
        fprintf(stderr, "%s:%d: not a line of a scenario: %s\n", path, number, line);
        abort(); /* a typo in a test must not pass as a machine */
      }
    }
  }
}

int scenario_present(void) {
  const char *path = getenv("FAKE_NVML");
  return path && access(path, R_OK) == 0;
}

void scenario_refresh(void) {
  static struct stat seen;
  struct stat now;
  const char *path = getenv("FAKE_NVML");
  if (!path || stat(path, &now)) return;
  if (now.st_ino == seen.st_ino && now.st_size == seen.st_size && now.st_mtim.tv_sec == seen.st_mtim.tv_sec &&
      now.st_mtim.tv_nsec == seen.st_mtim.tv_nsec)
    return;
  FILE *file = fopen(path, "r");
  if (!file) return;
  seen = now;
  read_file(file, path);
  fclose(file);
}

int scenario_error(const char *function, int gpu, int *delay_ms) {
  *delay_ms = 0;
  for (int i = 0; i < scenario.error_count; i++) {
    size_t length = strcspn(scenario.errors[i].function, "*"); /* `nvmlDevice*` means every function of that start */
    int wildcard = scenario.errors[i].function[length] == '*';
    if (strncmp(function, scenario.errors[i].function, length) || (!wildcard && function[length])) continue;
    if (scenario.errors[i].gpu >= 0 && scenario.errors[i].gpu != gpu) continue;
    *delay_ms = scenario.errors[i].delay_ms;
    return scenario.errors[i].code;
  }
  return 0;
}
