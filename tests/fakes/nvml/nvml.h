/* What the files of the scripted NVML share: the numbers of its errors, and what comes before every answer. */
#ifndef NVML_H
#define NVML_H

#include "scenario.h"

typedef int result;
typedef unsigned int u32;
typedef unsigned long long u64;

enum {
  SUCCESS = 0, UNINITIALIZED = 1, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6, INSUFFICIENT_SIZE = 7,
  DRIVER_NOT_LOADED = 9, TIMEOUT = 10, GPU_IS_LOST = 15, ARGUMENT_VERSION_MISMATCH = 25,
};

struct pci { char legacy_id[16]; u32 domain, bus, device, device_id, subsystem_id; char bus_id[32]; };
result pci_info(const char *bus_id, struct pci *out);
result copy_text(char *buffer, u32 size, const char *text);

/* How this call fails by script (after its delay), as a call before nvmlInit, or because its GPU has gone. */
result refusal(const char *function, const device *d);

#define REQUIRE(condition, otherwise)                                                                                  \
  if (!(condition)) return otherwise
#define BEFORE(d)                                                                                                      \
  result refused_ = refusal(__func__, d);                                                                              \
  REQUIRE(!refused_, refused_)
/* A function that gives one number of a device, where it is supported. */
#define NUMBER(function, type, supported, value)                                                                       \
  result function(device *d, type *out) {                                                                              \
    BEFORE(d);                                                                                                         \
    REQUIRE(supported, NOT_SUPPORTED);                                                                                 \
    *out = (type)(value);                                                                                              \
    return SUCCESS;                                                                                                    \
  }

#endif
