//! The extended registers of a vCPU: `struct kvm_xsave`, whose size KVM tells.
#![allow(unsafe_code, reason = "KVM fills and reads as much as it has told before")]

use kvm_bindings::{KVM_CAP_XSAVE2, Xsave, kvm_xsave};
use kvm_ioctls::{Error, VcpuFd, VmFd};

/// Words of 4 bytes that the structure has at least, and had before it could be longer.
const LEAST: usize = size_of::<kvm_xsave>() / size_of::<u32>();

/// Number of 4-byte words of the extended registers in a machine of this host. This process asks for
/// no registers that make it grow (`arch_prctl(2)`), so that it stays the same.
pub(crate) fn words(vm: &VmFd) -> usize {
    let bytes = usize::try_from(vm.check_extension_raw(KVM_CAP_XSAVE2.into())).unwrap_or(0);
    bytes.div_ceil(size_of::<u32>()).max(LEAST)
}

/// Reads the registers, [`words`] many.
pub(super) fn read(vcpu: &VcpuFd, words: usize) -> Result<Vec<u32>, Error> {
    if words <= LEAST {
        return Ok(vcpu.get_xsave()?.region.to_vec());
    }
    let mut xsave = Xsave::new(words - LEAST).map_err(|_| Error::new(libc::ENOMEM))?;
    // SAFETY: there is room for as much as KVM said that it writes.
    unsafe { vcpu.get_xsave2(&mut xsave) }?;
    let known = xsave.as_fam_struct_ref().xsave.region;
    Ok([&known, xsave.as_slice()].concat())
}

/// Sets the registers. `registers` must be [`words`] long.
pub(super) fn write(vcpu: &VcpuFd, registers: &[u32]) -> Result<(), Error> {
    let (known, more) = registers.split_at_checked(LEAST).ok_or(Error::new(libc::EINVAL))?;
    let mut xsave = Xsave::new(more.len()).map_err(|_| Error::new(libc::ENOMEM))?;
    xsave.as_mut_slice().copy_from_slice(more);
    // SAFETY: only the length must not be changed.
    let fixed = unsafe { xsave.as_mut_fam_struct() };
    fixed.xsave.region.copy_from_slice(known);
    // SAFETY: there is as much as KVM said that it reads.
    unsafe { vcpu.set_xsave2(&xsave) }
}
