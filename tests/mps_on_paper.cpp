// Gives autograd a device guard and events for MPS that do nothing, so that fake MPS tensors need no Apple GPU.
#include <c10/core/impl/DeviceGuardImplInterface.h>

struct Guard final : c10::impl::NoOpDeviceGuardImpl<c10::DeviceType::MPS> {
  void record(void**, const c10::Stream&, const c10::DeviceIndex, const c10::EventFlag) const override {}
  void block(void*, const c10::Stream&) const override {}
  bool queryEvent(void*) const override { return true; }
};

static Guard guard;

extern "C" int install() {
  c10::impl::device_guard_impl_registry[static_cast<int>(c10::DeviceType::MPS)].store(&guard);
  return 0;
}
