/* The machine that the scripted NVML pretends to be, as read from the file that $FAKE_NVML names (README.md). */
#ifndef SCENARIO_H
#define SCENARIO_H

enum { MAX_GPUS = 64, MAX_MIG = 14, MAX_PROCESSES = 64, MAX_RULES = 512 };

/* A GPU, or a MIG device when `parent` is set. Every number is a long long so that one table can describe the keys. */
typedef struct device {
  struct device *parent;
  struct device *mig[MAX_MIG];
  int index, mig_count, process_count;
  char name[96], uuid[80], pci_bus_id[32], nvlink_peers[256];
  long long memory_total_bytes, memory_used_bytes, memory_reserved_bytes, memory_supported;
  long long compute_major, compute_minor, numa_node;
  long long nvlink_count, nvswitch, pcie_generation, pcie_width;
  long long mig_capable, mig_mode, gpu_instance, compute_instance, slices, multiprocessors;
  long long ecc_supported, ecc_enabled, ecc_corrected, ecc_uncorrected, remap_pending, remap_failed;
  long long power_mw, power_limit_mw, power_default_mw, temperature_c, utilization, memory_utilization;
  long long virtualization_mode, persistence_mode, compute_mode;
  struct { unsigned pid; unsigned long long used_bytes; } processes[MAX_PROCESSES];
} device;

struct scenario {
  char driver_version[80], nvml_version[80];
  int cuda_version; /* as NVML counts: 12040 is 12.4 */
  int topology_default, pcie_p2p;
  int gpu_count, mig_count, error_count, topology_count, xid_count;
  device gpus[MAX_GPUS], migs[MAX_GPUS * MAX_MIG];
  struct { char function[64]; int gpu, code, delay_ms; } errors[MAX_RULES]; /* gpu -1: any */
  struct { int a, b, level; } topology[MAX_RULES];
  struct { int gpu, xid; } xids[MAX_RULES];
};

extern struct scenario scenario;

/* Read the file again if it has changed since the last call: a test can take a GPU away while somebody looks. */
void scenario_refresh(void);

/* Whether $FAKE_NVML names a file that can be read. */
int scenario_present(void);

/* What the rules say about a call of `function` on the GPU `gpu` (-1: on none): its error code and its delay. */
int scenario_error(const char *function, int gpu, int *delay_ms);

#endif
