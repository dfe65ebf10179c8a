/* How GPUs are connected, and how one is split into MIG devices. */
#include "nvml.h"

#include <stdio.h>
#include <string.h>

/* ---- PCIe, peer-to-peer and NVLink ---- */

static int is_peer(const device *d, int other) {
  char word[8];
  snprintf(word, sizeof word, " %d ", other);
  return d->nvswitch || strstr(d->nvlink_peers, word) != NULL;
}

result nvmlDeviceGetTopologyCommonAncestor(device *d, device *other, u32 *level) {
  BEFORE(d);
  *level = d == other ? 0 : scenario.topology_default;
  for (int i = 0; i < scenario.topology_count; i++) {
    int a = scenario.topology[i].a, b = scenario.topology[i].b;
    if ((a == d->index && b == other->index) || (b == d->index && a == other->index))
      *level = scenario.topology[i].level;
  }
  return SUCCESS;
}

result nvmlDeviceGetP2PStatus(device *d, device *other, u32 capability, u32 *status) {
  BEFORE(d);
  int nvlinks = d->nvlink_count && other->nvlink_count;
  if (capability == 2) *status = nvlinks && is_peer(d, other->index) ? 0 : 5; /* NVLink: OK or not supported */
  else *status = nvlinks || scenario.pcie_p2p ? 0 : 1;                       /* OK or chipset not supported */
  return SUCCESS;
}

result nvmlDeviceGetNvLinkState(device *d, u32 link, u32 *active) {
  BEFORE(d);
  REQUIRE(d->nvlink_count, NOT_SUPPORTED);
  REQUIRE(link < d->nvlink_count, INVALID_ARGUMENT);
  *active = 1;
  return SUCCESS;
}

result nvmlDeviceGetNvLinkCapability(device *d, u32 link, u32 capability, u32 *out) {
  (void)link;
  (void)capability;
  BEFORE(d);
  REQUIRE(d->nvlink_count, NOT_SUPPORTED);
  *out = 1;
  return SUCCESS;
}

result nvmlDeviceGetNvLinkRemoteDeviceType(device *d, u32 link, u32 *type) {
  (void)link;
  BEFORE(d);
  REQUIRE(d->nvlink_count, NOT_SUPPORTED);
  *type = d->nvswitch ? 2 : 0;
  return SUCCESS;
}

result nvmlDeviceGetNvLinkRemotePciInfo_v2(device *d, u32 link, struct pci *out) {
  BEFORE(d);
  REQUIRE(d->nvlink_count, NOT_SUPPORTED);
  REQUIRE(link < d->nvlink_count, INVALID_ARGUMENT);
  if (d->nvswitch) {
    char bus_id[32];
    snprintf(bus_id, sizeof bus_id, "00000000:%02X:00.0", 0x80 + link % 4); /* four switches, links spread over them */
    return pci_info(bus_id, out);
  }
  int peers[MAX_GPUS], count = 0;
  for (int i = 0; i < scenario.gpu_count; i++)
    if (i != d->index && is_peer(d, i)) peers[count++] = i;
  REQUIRE(count, NOT_SUPPORTED);
  return pci_info(scenario.gpus[peers[link * count / d->nvlink_count]].pci_bus_id, out);
}

/* ---- MIG ---- */

struct attributes {
  u32 multiprocessors, copy_engines, decoders, encoders, jpeg, ofa, gpu_slices, compute_slices;
  u64 memory_mib;
};

NUMBER(nvmlDeviceGetMaxMigDeviceCount, u32, 1, d->mig_capable ? 7 : 0)
NUMBER(nvmlDeviceIsMigDeviceHandle, u32, 1, d->parent != NULL)
NUMBER(nvmlDeviceGetGpuInstanceId, u32, d->parent, d->gpu_instance)
NUMBER(nvmlDeviceGetComputeInstanceId, u32, d->parent, d->compute_instance)

result nvmlDeviceGetMigMode(device *d, u32 *current, u32 *pending) {
  BEFORE(d);
  REQUIRE(d->mig_capable, NOT_SUPPORTED);
  *current = *pending = d->mig_mode;
  return SUCCESS;
}

result nvmlDeviceGetMigDeviceHandleByIndex(device *d, u32 index, device **handle) {
  BEFORE(d);
  REQUIRE(d->mig_capable, NOT_SUPPORTED);
  REQUIRE((int)index < d->mig_count, NOT_FOUND);
  *handle = d->mig[index];
  return SUCCESS;
}

result nvmlDeviceGetDeviceHandleFromMigDeviceHandle(device *d, device **handle) {
  BEFORE(d);
  REQUIRE(d->parent, INVALID_ARGUMENT);
  *handle = d->parent;
  return SUCCESS;
}

result nvmlDeviceGetAttributes_v2(device *d, struct attributes *out) {
  BEFORE(d);
  REQUIRE(d->parent, NOT_SUPPORTED);
  memset(out, 0, sizeof *out);
  out->multiprocessors = d->multiprocessors;
  out->gpu_slices = out->compute_slices = d->slices;
  out->memory_mib = d->memory_total_bytes >> 20;
  return SUCCESS;
}
