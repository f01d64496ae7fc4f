//! What fuzzers reach of this crate. Only there when fuzzing.

use virtio::mmio::TransportState;

use crate::saved::{SavedMachine, decode, encode, seal};

/// The bytes of a state file with this content, as if the VMM had written it.
pub fn sealed(content: &[u8]) -> Option<Vec<u8>> {
    seal(content)
}

/// What a state file says of the machine's devices: for each its window and its state.
///
/// # Errors
/// The text for people if the file is refused.
pub fn devices(file: &[u8]) -> Result<Vec<(u8, TransportState)>, String> {
    let machine = read(file)?;
    Ok(machine.devices.into_iter().map(|(window, state)| (window.index(), state)).collect())
}

/// The file that is written for the machine of another one.
///
/// # Errors
/// The text for people if the file is refused.
pub fn rewritten(file: &[u8]) -> Result<Vec<u8>, String> {
    encode(&read(file)?).map_err(|error| error.to_string())
}

/// What a request for a machine is told of which this file is the state: each refusal.
///
/// # Errors
/// The text for people if the file is refused.
pub fn refusals(file: &[u8], shape: &vmm_api::MachineConfig) -> Result<Vec<String>, String> {
    let machine = read(file)?;
    let kernel = vmm_api::KernelDigest::from([0; 32]);
    let request = machine.check_request(shape, kernel, &[]);
    let checks = [request, machine.check_cpu(&[])];
    Ok(checks.into_iter().filter_map(|check| Some(check.err()?.to_string())).collect())
}

fn read(file: &[u8]) -> Result<SavedMachine, String> {
    decode(file).map_err(|error| error.to_string())
}
